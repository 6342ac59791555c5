// Draws what each worker did: one bar per attempt, which can be selected and read, also by keyboard.

// How bars differ by outcome: in color, and also in height or filling.
const LOOKS = {
  completed: { said: "completed", color: "accent", height: 0.66 },
  failed: { said: "failed", color: "bad", height: 0.9 },
  retried: { said: "failed, to be retried", color: "warn", height: 0.36 },
  interrupted: { said: "interrupted", color: "cut", height: 0.66, isHollow: true },
  skipped: { said: "interrupted, since a person skipped it", color: "good", height: 0.66, isHollow: true },
  crashed: { said: "interrupted by a crash", color: "cut", height: 0.66, isHollow: true },
  running: { said: "still running", color: "cut", height: 0.66, isHollow: true },
  unended: { said: "no end recorded", color: "cut", height: 0.66, isHollow: true },
};
const SEVERAL = { color: "accent", height: 0.6 };

const drawTimeline = (page) => {
  const { data, colors, byId, amount, duration, clock, tip, draw, control } = page;
  const { grid, timeAxis, gapMarks, total } = page;

  const lines = ([row, from, to, outcome, type, count, ...more]) => {
    const typeName = type < 0 ? "several types" : data.types[type];
    const when = `worker ${data.rows[row]}, from ${clock(from)}`;
    if (count > 1) {
      const [busy, failed] = more;
      return [
        `${amount(count)} short attempts`, `${typeName}, ${when}, within ${duration(to - from)}`,
        `${duration(busy / count)} each on average`, failed ? `${amount(failed)} failed` : "",
      ];
    }
    const [item, attempt, isHook, text] = more;
    const which = `${attempt > 1 ? `, attempt ${attempt}` : ""}${isHook ? ", hook" : ""}`;
    return [`${typeName}, item ${item}`, `${LOOKS[outcome].said}${which}, ${duration(to - from)}`, when, text];
  };

  const rows = data.rows.map(() => []);
  data.spans.forEach((span, index) => rows[span[0]].push(index));
  let selected = -1;
  let seen = [0, total];
  const height = Math.min(Math.max(rows.length, 1) * 22, Math.max(440, rows.length * 4.5));
  byId("timeline-chart").style.height = `${Math.round(46 + height)}px`;

  const bar = (params, api) => {
    const [row, from, to, outcome, , count, busy, failed] = data.spans[params.dataIndex];
    const look = count > 1 ? SEVERAL : LOOKS[outcome];
    const rowHeight = api.size([0, 1])[1];
    const [left, middle] = api.coord([from, row]);
    const width = Math.max(api.coord([to, row])[0] - left, 1);
    const part = (top, share, partWidth) => echarts.graphic.clipRectByRect(
      { x: left, y: middle + rowHeight * top, width: partWidth, height: rowHeight * share }, params.coordSys);
    const shape = part(-look.height / 2, look.height, width);
    if (!shape) return undefined;
    const style = {
      fill: look.isHollow ? colors["accent-soft"] : colors[look.color],
      // Of several attempts, paler the more time there was between them.
      opacity: count > 1 ? 0.3 + 0.4 * Math.min(busy / Math.max(to - from, 0.001), 1) : 1,
    };
    if (params.dataIndex === selected) Object.assign(style, { stroke: colors.text, lineWidth: 2 });
    else if (look.isHollow) Object.assign(style, { stroke: colors[look.color], lineWidth: Math.min(2, rowHeight / 4) });
    else if (width > 3) Object.assign(style, { stroke: colors.surface, lineWidth: Math.min(0.8, width / 6) });
    const children = [{ type: "rect", shape, style }];
    const mark = count > 1 && failed && part(0.21, 0.24, Math.max((width * failed) / count, Math.min(width, 2)));
    if (mark) children.push({ type: "rect", shape: mark, style: { fill: colors.bad } });
    return { type: "group", children };
  };

  const option = () => ({
    grid: grid({ left: 12 }),
    xAxis: timeAxis(),
    yAxis: {
      type: "category", inverse: true, data: data.rows.map(String), axisTick: { show: false }, axisLine: { show: false },
      axisLabel: { fontSize: 11, interval: rows.length > 40 ? (index) => index % 10 === 9 : 0 },
    },
    dataZoom: [{
      type: "inside", filterMode: "weakFilter", startValue: seen[0], endValue: seen[1],
      // By mouse only with a key held, so that the page still scrolls.
      zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false, moveOnMouseMove: "shift",
    }],
    tooltip: {
      trigger: "item", confine: true, transitionDuration: 0,
      formatter: ({ componentType, name, dataIndex }) =>
        (componentType === "markLine" ? tip(name) : tip(...lines(data.spans[dataIndex]))),
    },
    series: [
      {
        type: "custom", renderItem: bar, clip: true, encode: { x: [0, 1], y: 2 }, progressive: 0,
        data: data.spans.map(([row, from, to]) => [from, to, row]),
      },
      { type: "line", data: [], markLine: gapMarks() },
    ],
  });

  draw("timeline", option, {
    bind(chart, paint) {
      const zoomTo = (middle, width) => {
        const half = Math.min(width, total) / 2;
        const center = Math.min(Math.max(middle, half), total - half);
        seen = [center - half, center + half];
        paint();
      };
      const select = (index) => {
        if (index === undefined) return;
        selected = index;
        const at = data.spans[index][1];
        const isSeen = seen[0] <= at && at <= seen[1];
        zoomTo(isSeen ? (seen[0] + seen[1]) / 2 : at, seen[1] - seen[0]);
        const [title, ...more] = lines(data.spans[index]);
        byId("timeline-selected").textContent = `${title}: ${more.filter(Boolean).join("; ")}`;
      };
      const step = (by) => {
        const row = selected < 0 ? rows.find((one) => one.length) : rows[data.spans[selected][0]];
        if (row) select(row[Math.min(Math.max(selected < 0 ? 0 : row.indexOf(selected) + by, 0), row.length - 1)]);
      };
      const climb = (by) => {
        if (selected < 0) return step(0);
        const [row, from] = data.spans[selected];
        for (let at = row + by; rows[at]; at += by) {
          if (rows[at].length) return select(rows[at].find((index) => data.spans[index][2] >= from) ?? rows[at].at(-1));
        }
        return undefined;
      };
      const magnify = (factor) => {
        const middle = selected < 0 ? (seen[0] + seen[1]) / 2 : data.spans[selected][1];
        zoomTo(middle, (seen[1] - seen[0]) * factor);
      };
      chart.on("click", ({ componentType, dataIndex }) => componentType === "series" && select(dataIndex));
      chart.on("datazoom", () => {
        const { startValue, endValue } = chart.getOption().dataZoom[0];
        seen = [startValue, endValue];
      });
      control("timeline", {
        previous: () => step(-1), next: () => step(1), up: () => climb(-1), down: () => climb(1),
        in: () => magnify(0.5), out: () => magnify(2),
      });
    },
  });
};
