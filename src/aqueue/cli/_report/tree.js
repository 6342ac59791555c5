// Draws the tree of items as an icicle: each item as wide as what is below it, zoomed by a click or by keyboard.

const drawTree = (page) => {
  const { data, colors, amount, byId, element, legendEntry, tip, draw, control, TYPE_COLORS, theme } = page;
  const cells = data.cells.map(([parent, type, item, count, size, failed, skipped, isCut]) =>
    ({ parent, type, item, count, size, failed, skipped, isCut, children: [] }));
  cells.forEach((cell, index) => cell.parent >= 0 && cells[cell.parent].children.push(index));
  const ranked = [];
  for (const { type, count } of cells) if (type >= 0) ranked[type] = (ranked[type] ?? 0) + count;
  const order = Object.keys(ranked).sort((a, b) => ranked[b] - ranked[a]).map(Number);
  const place = new Map(order.map((type, index) => [type, Math.min(index, TYPE_COLORS - 1)]));
  order.slice(0, TYPE_COLORS).forEach((type, index) => {
    const areOthers = index === TYPE_COLORS - 1 && order.length > TYPE_COLORS;
    byId("tree-legend").append(legendEntry(index, areOthers ? "other types" : data.types[type]));
  });
  const title = ({ type, item, count }) =>
    (type < 0 ? "the run" : item ? `${data.types[type]} ${item}` : `+${amount(count)} ${data.types[type]}`);
  const describe = (cell) => {
    const below = cell.size - (cell.type < 0 ? 0 : cell.count);
    return [title(cell), `${amount(below)} item${below === 1 ? "" : "s"} below${cell.isCut ? ", not on this page" : ""}`,
      cell.failed ? `✗ ${amount(cell.failed)} failed` : "", cell.skipped ? `${amount(cell.skipped)} skipped` : ""];
  };

  const ROW = 32;
  const MAX_ROWS = 12;
  let focus = 0;
  let selected = 0;
  let isChosen = false; // an outline before the first selection would only be noise
  let shown = [];
  const layOut = (width) => {
    shown = [];
    const waiting = [[focus, 0, width, 0]];
    while (waiting.length) {
      const [index, left, room, row] = waiting.pop();
      shown.push([index, left, room, row]);
      if (row + 1 === MAX_ROWS) continue;
      const { children } = cells[index];
      const total = children.reduce((sum, child) => sum + cells[child].size, 0);
      let at = left;
      for (const child of children) {
        const part = (room * cells[child].size) / total;
        if (part > 0.3) waiting.push([child, at, part, row + 1]);
        at += part;
      }
    }
    return 1 + Math.max(...shown.map(([, , , row]) => row));
  };

  const paintCell = ({ dataIndex }) => {
    const [index, left, room, row] = shown[dataIndex];
    const cell = cells[index];
    const top = row * ROW;
    const rect = (shape, style) => ({ type: "rect", silent: true, shape, style });
    const shape = { x: left, y: top + 1, width: Math.max(room - (room > 4 ? 1 : 0), 0.5), height: ROW - 2, r: room > 12 ? 3 : 0 };
    const fill = cell.type < 0 ? colors.quiet : colors.types[place.get(cell.type)];
    const children = [{ ...rect(shape, { fill }), silent: false }];
    if (cell.failed) {
      const width = Math.max((shape.width * cell.failed) / cell.size, Math.min(3, shape.width));
      children.push(rect({ x: left, y: top + ROW - 6, width, height: 5 }, { fill: colors.bad, stroke: colors.surface, lineWidth: 1 }));
    }
    if (room > 34) {
      const text = `${title(cell)}${cell.isCut ? " …" : ""}${cell.failed ? ` ✗ ${amount(cell.failed)}` : ""}`;
      children.push({ type: "text", silent: true, style: {
        text, x: left + 7, y: top + ROW / 2 - (cell.failed ? 2 : 0), verticalAlign: "middle", fill: colors["on-fill"],
        fontSize: 12, fontFamily: theme().textStyle.fontFamily, width: room - 12, overflow: "truncate", ellipsis: "…",
      } });
    }
    if (index === selected && isChosen) {
      const inner = { ...shape, x: left + 1.5, y: top + 2.5, width: Math.max(shape.width - 3, 1), height: ROW - 5 };
      children.push(rect(inner, { fill: "none", stroke: colors["on-fill"], lineWidth: 3 }));
      children.push(rect(shape, { fill: "none", stroke: colors.text, lineWidth: 2 }));
    }
    return { type: "group", children };
  };

  const box = byId("tree-chart");
  const option = () => {
    const rows = layOut(box.clientWidth);
    const height = `${rows * ROW + 2}px`;
    if (box.style.height !== height) box.style.height = height;
    return {
      tooltip: {
        trigger: "item", confine: true, transitionDuration: 0,
        formatter: ({ dataIndex }) => tip(...describe(cells[shown[dataIndex][0]])),
      },
      series: [{
        type: "custom", coordinateSystem: "none", renderItem: paintCell, progressive: 0, data: shown.map((_, at) => at),
      }],
    };
  };

  draw("tree", option, {
    repaints: true,
    bind(chart, paint) {
      const pathButton = (index) => {
        const button = element("button", title(cells[index]));
        button.type = "button";
        if (index === focus) button.setAttribute("aria-current", "location");
        button.addEventListener("click", () => {
          zoomTo(index);
          byId("tree-path").querySelector("[aria-current]").focus(); // the button itself is a new one
        });
        return button;
      };
      const showPath = () => {
        const steps = [];
        for (let at = focus; at >= 0; at = cells[at].parent) steps.unshift(at);
        // Of a deep path the ends: a button for each of thousands of levels would help nobody.
        const kept = steps.length > 12 ? [...steps.slice(0, 3), -1, ...steps.slice(-8)] : steps;
        byId("tree-path").replaceChildren(...kept.map((index) => {
          const entry = element("li");
          entry.append(index < 0 ? `… ${amount(steps.length - 11)} levels …` : pathButton(index));
          return entry;
        }));
      };
      const show = () => {
        showPath();
        paint();
        chart.resize(); // it may have got higher or lower
        byId("tree-selected").textContent = describe(cells[selected]).filter(Boolean).join("; ");
      };
      const zoomTo = (index) => {
        focus = selected = index;
        isChosen = index > 0;
        show();
      };
      const select = (index) => {
        if (index === undefined || index < 0) return;
        selected = index;
        isChosen = true;
        // What is selected is seen: if it is above, below or too narrow, the chart zooms.
        if (!shown.some(([one]) => one === index)) focus = Math.max(cells[index].parent, 0);
        show();
      };
      const sibling = (by) => {
        const { parent } = cells[selected];
        if (parent < 0) return;
        const all = cells[parent].children;
        select(all[Math.min(Math.max(all.indexOf(selected) + by, 0), all.length - 1)]);
      };
      chart.on("click", ({ dataIndex }) => {
        const [index] = shown[dataIndex];
        zoomTo(index === focus && index !== 0 ? cells[index].parent : index);
      });
      control("tree", {
        previous: () => sibling(-1), next: () => sibling(1),
        up: () => select(cells[selected].parent), down: () => select(cells[selected].children[0]),
        in: () => zoomTo(selected),
        out: () => {
          const left = focus;
          zoomTo(Math.max(cells[left].parent, 0));
          select(left);
        },
      });
      showPath();
    },
  });
};
