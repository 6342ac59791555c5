"""Items and results to JSON and back, and the names by which classes are recorded.

Each module imports only from those above it:

- `annotations`: the classes that a class's annotations name for each attribute
- `digests`: digests of keys, items and states: short, and the same in each process and version
- `results`: results to JSON and back: what JSON can carry, nothing silently changed
- `values`: the table of the types whose values can be stored: each with its tag, what writes it and what reads it
- `object_state`: what the state of an object is, whatever its class, and how an equal object is made from it
- `policies`: what a class says to aqueue, such as its `retry`, which is no part of an item
- `class_names`: which class of this program a recorded name means
- `plain_state`: the state of dataclasses, attrs classes and classes of no special kind
- `object_kinds`: which kind of class has its state where: Structs, named tuples, pydantic models, classes with `dump`
  and `load`
- `plain_items`: items with nothing but scalars, written and read as a whole, not value by value: most items
- `reader`: the same, back
- `writer`: the state of an object as JSON, value by value
- `item_codec`: items to JSON and back: the one that the engine and a resume use
"""
