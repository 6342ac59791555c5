"""Items and results to JSON and back, the names by which classes are recorded, and digests.

Each module imports only from those above it:

- `values`: one table of types with tag, writer and reader: a value that JSON lacks is an object like ``{"$path": "a/b"}``
- `annotations`: the classes that the annotation of an attribute names
- `assignments`: what the functions of a class assign to attributes, from their bytecode
- `fields`: the fields that a class declares, and their defaults
- `policies`: the settings of a class for aqueue, such as its `retry`, which are not part of an item
- `class_names`: the name of a class in a journal, and the class that has such a name
- `object_state`: reads the state of an object, and makes an object from it: dataclasses, attrs classes, ordinary classes
- `object_kinds`: the same for Structs, named tuples, pydantic models and classes with `dump` and `load`
- `plain_items`: the fast path for writing items that have nothing but scalars, as most items do
- `writer`: writes the state of an object as JSON, value by value
- `reader`: reads it back
- `item_codec`: items to JSON and back: what the engine and a resume use
- `results`: results to JSON and back
- `digests`: digests of keys, items and states: short, and the same in each process and version
"""
