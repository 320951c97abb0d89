"use strict";
// Charts: a colour for each group of runs and a dash pattern for each metric; with one group, a colour for each metric.

(() => {
  const COLOURS = ["#2f7ed8", "#e0731d", "#1fa37a", "#c653d6", "#dd4455", "#8a8f1f", "#17a2b8", "#8b6be0"];
  const DASHES = [[], [6, 4], [2, 3], [10, 3, 2, 3]];
  const hidden = new Set(state.get("hide", "").split(",").filter(Boolean).map(Number));
  const drawn = new Map(); // box -> uPlot

  options("axis", Object.entries(data.axes));
  const axis = control("axis", redraw);
  const smooth = control("smooth", redraw);
  if (data.thinned > 1) byId("thinned").textContent = ` Each point is the mean over ${data.thinned} steps.`;

  function number(value) {
    if (value === null || value === undefined) return "-";
    if (value !== 0 && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)) return value.toExponential(1);
    return String(Number(value.toPrecision(4)));
  }

  function place(value) {
    if (axis() === "seconds") {
      const s = Math.round(value), pad = (n) => String(n).padStart(2, "0");
      return s < 3600 ? `${Math.floor(s / 60)}:${pad(s % 60)}` : `${Math.floor(s / 3600)}:${pad(Math.floor(s / 60) % 60)} h`;
    }
    for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) if (Math.abs(value) >= size) return Number((value / size).toPrecision(4)) + unit;
    return String(value);
  }

  // Returns a group's line of a metric, without the points that lack it.
  function line(group, key) {
    const lines = data.lines[group];
    if (lines.bands) return lines.bands[axis()][key];
    const y = lines.y[key];
    if (!y) return undefined;
    const there = y.map((value, i) => (value === null ? -1 : i)).filter((i) => i >= 0);
    const picked = (values) => values && there.map((i) => values[i]);
    return { x: picked(lines.x[axis()]), y: picked(y), low: picked(lines.y[key + "_low"]), high: picked(lines.y[key + "_high"]) };
  }

  function mean(values) {
    const size = Number(smooth());
    return size ? values.map((_, i) => { const part = values.slice(Math.max(0, i - size + 1), i + 1); return part.reduce((a, b) => a + b, 0) / part.length; }) : values;
  }

  function swatch(colour, dash) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "swatch");
    const stroke = document.createElementNS(svg.namespaceURI, "line");
    const attributes = { x1: 0, y1: 5, x2: 22, y2: 5, stroke: colour, "stroke-width": 3, "stroke-dasharray": dash.join(" ") };
    for (const [name, value] of Object.entries(attributes)) stroke.setAttribute(name, value);
    svg.append(stroke);
    return svg;
  }

  function draw(box, chart) {
    drawn.get(box)?.destroy();
    const plot = box.querySelector(".plot"), legend = box.querySelector(".key");
    const several = data.groups.length > 1;
    const series = [{}], tables = [], bands = [], entries = [];
    data.groups.forEach((label, group) => chart.keys.forEach((key, k) => {
      const found = hidden.has(group) ? undefined : line(group, key);
      if (!found || !found.x.length) return;
      const colour = COLOURS[(several ? group : k) % COLOURS.length], dash = several ? DASHES[k % DASHES.length] : [];
      const name = [several ? label : "", chart.keys.length > 1 || !several ? key : ""].filter(Boolean).join(" ");
      const table = [found.x, mean(found.y)];
      entries.push({ name, colour, dash, at: series.length });
      series.push({ stroke: colour, width: 2, dash, spanGaps: true, points: { show: found.x.length < 25, size: 5, fill: colour } });
      if (found.low && found.high) {
        table.push(found.high, found.low);
        bands.push({ series: [series.length, series.length + 1], fill: colour + "33" });
        series.push(...[0, 1].map(() => ({ stroke: "transparent", width: 0, spanGaps: true, points: { show: false } })));
      }
      tables.push(table);
    }));
    const colour = getComputedStyle(document.body).getPropertyValue("--quiet").trim();
    const grid = { stroke: getComputedStyle(document.body).getPropertyValue("--line").trim(), width: 1 };
    const joined = tables.length ? uPlot.join(tables) : [[], ...series.slice(1).map(() => [])];
    const say = (u) => {
      const idx = u.cursor.idx ?? joined[0].length - 1;
      legend.replaceChildren(...entries.map(({ name, colour, dash, at }) => {
        let i = idx;
        while (i > 0 && joined[at][i] == null) i--;
        const entry = element("span");
        entry.append(swatch(colour, dash), element("span", "", name), element("b", "", number(joined[at]?.[i])));
        return entry;
      }));
    };
    const size = { width: Math.max(120, plot.clientWidth), height: 210 };
    drawn.set(box, new uPlot({
      ...size, series, bands,
      legend: { show: false },
      scales: { x: { time: false } },
      cursor: { sync: { key: "uec" }, points: { size: 7 } },
      axes: [
        { stroke: colour, grid, ticks: grid, values: (_, ticks) => ticks.map(place), space: 60 },
        { stroke: colour, grid, ticks: grid, values: (_, ticks) => ticks.map(number), size: 58 },
      ],
      hooks: { setCursor: [say], ready: [say] },
    }, joined, plot));
  }

  function redraw() {
    for (const box of drawn.keys()) draw(box, box.chart);
  }

  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting && !drawn.has(target)) draw(target, target.chart);
  }, { rootMargin: "300px" });
  const sized = new ResizeObserver((entries) => {
    for (const { target } of entries) drawn.get(target)?.setSize({ width: Math.max(120, target.querySelector(".plot").clientWidth), height: 210 });
  });

  data.sections.forEach((section, i) => {
    if (!section.charts.length) return;
    const details = element("details");
    details.open = i < data.sections.length - 1;
    details.append(element("summary", "", `${section.title} (${section.charts.length})`));
    const grid = element("div", "charts");
    for (const chart of section.charts) {
      const box = element("div", "chart");
      box.chart = chart;
      box.title = chart.keys.map((key, k) => [key, chart.captions[k][0], chart.captions[k][1] && `[${chart.captions[k][1]}]`].filter(Boolean).join(": ")).join("\n");
      box.append(element("h4", "", chart.title), element("div", "plot"), element("div", "key"));
      grid.append(box);
      seen.observe(box);
      sized.observe(box);
    }
    details.append(grid);
    if (section.missing.length) details.append(element("p", "quiet", `Not in these runs: ${section.missing.join(", ")}`));
    byId("charts").append(details);
  });
  if (!byId("charts").children.length) byId("charts").append(element("p", "", "No step has been logged yet."));

  if (data.groups.length > 1) {
    byId("legend").append(...data.groups.map((label, group) => {
      const entry = element("label"), box = Object.assign(element("input"), { type: "checkbox", checked: !hidden.has(group) });
      box.addEventListener("input", () => {
        box.checked ? hidden.delete(group) : hidden.add(group);
        state.set("hide", [...hidden].join(","));
        redraw();
      });
      entry.append(box, " ", swatch(COLOURS[group % COLOURS.length], []), " ", label);
      return entry;
    }));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
})();
