// Draws the charts that only the report has, from its data. What is text on the page is there without this script.
// Text from the run is put into the page as text alone, never as HTML.

(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const amount = (number) => number.toLocaleString("en-US", { maximumFractionDigits: 2 });
  const TYPE_COLORS = 8;

  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  const legendEntry = (color, said) => {
    const entry = element("li");
    const swatch = element("i", undefined, `type-${color}`);
    swatch.setAttribute("aria-hidden", "true");
    entry.append(swatch, said);
    return entry;
  };

  const tip = (title, ...lines) => {
    const made = element("div", undefined, "tip");
    made.append(element("strong", title));
    for (const line of lines) if (line) made.append(element("div", line));
    return made;
  };

  const duration = (ms) => {
    const s = ms / 1000;
    if (s <= 0) return "0 s";
    if (s < 0.00099) return `${Math.round(s * 1e6)} µs`;
    if (s < 0.0995) return `${Number((s * 1e3).toPrecision(3))} ms`;
    if (s < 59.95) return `${s < 9.995 ? s.toFixed(2) : s.toFixed(1)} s`;
    const [m, h, d] = [Math.floor(s / 60), Math.floor(s / 3600), Math.floor(s / 86400)];
    if (h < 1) return `${m} min ${Math.floor(s % 60)} s`;
    return d < 1 ? `${h} h ${m % 60} min` : `${amount(d)} d ${h % 24} h`;
  };

  const clock = (ms) => {
    const whole = Math.floor(ms / 1000 + 1e-6);
    const two = (number) => String(number).padStart(2, "0");
    const rest = ms - whole * 1000 > 0.5 ? (ms / 1000 - whole).toFixed(3).slice(1).replace(/0+$/, "") : "";
    const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    return (h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`) + rest;
  };

  // ---- Colours: the style sheet is their one source, for both schemes and for print.

  const NAMES = ["surface", "text", "quiet", "line", "faint", "accent", "accent-soft", "bad", "warn", "cut", "good", "on-fill"];
  const colors = { types: [] };
  const readColors = () => {
    const probe = element("i");
    root.append(probe);
    const read = (name) => {
      probe.style.color = `var(--${name})`;
      return getComputedStyle(probe).color; // the property itself would have the colors of both schemes
    };
    for (const name of NAMES) colors[name] = read(name);
    colors.types = Array.from({ length: TYPE_COLORS }, (_, number) => read(`type-${number}`));
    probe.remove();
  };

  const theme = () => {
    const axis = {
      axisLine: { lineStyle: { color: colors.line } },
      axisTick: { lineStyle: { color: colors.line } },
      axisLabel: { color: colors.quiet },
      splitLine: { lineStyle: { color: colors.line } },
    };
    return {
      backgroundColor: "transparent",
      color: colors.types,
      textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: colors.text },
      timeAxis: axis, valueAxis: axis, categoryAxis: axis,
      tooltip: {
        backgroundColor: colors.surface, borderColor: colors.line, textStyle: { color: colors.text },
        axisPointer: { lineStyle: { color: colors.quiet }, shadowStyle: { color: colors["accent-soft"] } },
      },
    };
  };

  // ---- Charts in general.

  const charts = [];
  const draw = (name, option, start) => {
    const box = byId(`${name}-chart`);
    try {
      const chart = echarts.init(box, theme(), { renderer: "canvas", devicePixelRatio: Math.max(2, devicePixelRatio) });
      const paint = () => chart.setOption({ animation: false, useUTC: true, ...option(chart) }, { notMerge: true });
      paint();
      charts.push({ chart, paint });
      new ResizeObserver(() => {
        if (matchMedia("print").matches) return; // the style sheet scales what is drawn already
        chart.resize();
        if (start?.repaints) paint();
      }).observe(box);
      if (start?.bind) start.bind(chart, paint);
    } catch (error) {
      box.textContent = "This chart could not be drawn; its data is in a table below.";
      console.error(error);
    }
  };

  const repaint = () => {
    readColors();
    for (const { chart, paint } of charts) {
      chart.setTheme(theme());
      paint();
      chart.getZr().flush(); // paper doesn't wait for the next frame
    }
  };

  const total = Math.max(data.end, 0.001);
  const roughly = (ms) => clock(total > 60000 ? Math.round(ms / 1000) * 1000 : ms);
  const timeAxis = () => ({
    type: "time", min: 0, max: total, axisLabel: { formatter: roughly, hideOverlap: true }, splitLine: { show: false },
  });
  // The time between processes is left out: a line marks where it was, and says how long.
  const gapMarks = () => ({
    silent: false, symbol: "none", label: { show: false }, lineStyle: { color: colors.cut, type: "solid", width: 1.5 },
    data: data.gaps.map(([at, said]) => ({ xAxis: at, name: said })),
  });
  const grid = (more) => ({ left: 8, right: 16, top: 12, bottom: 4, containLabel: true, ...more });
  const KEYS = {
    ArrowLeft: "previous", ArrowRight: "next", ArrowUp: "up", ArrowDown: "down",
    "+": "in", "=": "in", "-": "out", Backspace: "out",
  };
  const control = (name, actions) => {
    const box = byId(`${name}-controls`);
    box.addEventListener("click", (event) => actions[event.target.dataset.do]?.());
    box.addEventListener("keydown", (event) => {
      const action = KEYS[event.key];
      if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      actions[action]();
    });
  };

  // ---- How long it took.

  const drawDurations = () => {
    const { edges, types, decades } = data.durations;
    const picker = byId("durations-type");
    const name = (number) => (number < 0 ? "all other types" : data.types[number]);
    types.forEach(([number], index) => {
      const option = element("option", name(number));
      option.value = String(index);
      picker.append(option);
      byId("durations-legend").append(legendEntry(index % TYPE_COLORS, name(number)));
    });
    const bins = Math.max(edges.length - 1, 0);
    draw("durations", () => ({
      grid: grid(),
      xAxis: {
        type: "category", data: edges.slice(0, bins), axisTick: { alignWithLabel: false, show: false },
        axisLabel: { hideOverlap: true, interval: decades?.length > 1 ? (index) => decades.includes(index) : "auto" },
      },
      yAxis: { type: "value", minInterval: 1, splitNumber: 4, axisLabel: { formatter: amount } },
      tooltip: {
        trigger: "axis", confine: true, transitionDuration: 0, axisPointer: { type: "shadow" },
        formatter: (shown) => tip(`${edges[shown[0].dataIndex]} – ${edges[shown[0].dataIndex + 1]}`,
          ...shown.filter((one) => one.value).map((one) => `${amount(one.value)} ${name(types[one.seriesId][0])}`)),
      },
      series: types.map(([, counts], index) => ({
        type: "bar", id: String(index), stack: "all", barCategoryGap: "8%", barMaxWidth: 80, data: counts, silent: true,
        itemStyle: { color: colors.types[index % TYPE_COLORS] },
      })).filter((_, index) => picker.value === "" || picker.value === String(index)),
    }), { bind: (_, paint) => picker.addEventListener("change", paint) });
  };

  // ---- The page.

  root.classList.add("js");
  const shared = {
    data, colors, amount, byId, element, legendEntry, tip, duration, clock, draw, control, TYPE_COLORS,
    grid, timeAxis, gapMarks, total, theme,
  };
  readColors();
  if (byId("timeline")) drawTimeline(shared); // without an attempt or an item there is nothing to draw
  if (byId("durations")) drawDurations();
  if (byId("tree")) drawTree(shared);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  new MutationObserver(repaint).observe(root, { attributeFilter: ["style"] }); // a reader has chosen the other scheme
  addEventListener("beforeprint", () => { root.classList.add("print"); repaint(); });
  addEventListener("afterprint", () => { root.classList.remove("print"); repaint(); });
})();
