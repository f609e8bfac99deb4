"use strict";
(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const off = new Set(); // methods that are switched off, in all figures
  const charts = [];

  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const printing = () => root.classList.contains("printing");
  const dark = () => !printing() && (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const colour = (method) => DATA.methods[method][dark() ? "dark" : "light"];
  const clear = (hex) => `${hex}2e`;
  const percent = (metric) => DATA.metrics[metric].includes("(%)");
  const readable = (value, metric) => {
    if (value === null || value === undefined) return "";
    if (metric && percent(metric)) return value.toFixed(2);
    const rounded = Number(value.toPrecision(4));
    return Math.abs(rounded) >= 1e5 || (rounded !== 0 && Math.abs(rounded) < 1e-3) ? rounded.toExponential() : String(rounded);
  };

  // What a figure's controls say: {metric: "online/top1", logx: false, ...}
  const settings = (figure) =>
    Object.fromEntries(
      all("[data-control]", figure).map((c) => [c.dataset.control, c.type === "checkbox" ? c.checked : c.value]),
    );

  const groupsOf = (figure) => DATA.datasets[figure.dataset.dataset];

  // Layout of one plot in the page's colours; the axes' own values win. `tip` heads the tooltip: "epoch".
  function layout(box, height, tip, xaxis, yaxis, more = {}) {
    const axis = {
      gridcolor: css("--grid"), linecolor: css("--line"), zerolinecolor: css("--line"), automargin: true, ticks: "outside",
      tickcolor: css("--line"), exponentformat: "power", minorloglabels: "none",
    };
    return {
      width: box.clientWidth, height, autosize: false, showlegend: false, hovermode: "x", hoverdistance: -1, dragmode: "zoom", meta: { tip },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 48, r: 10, t: 28, b: 40 },
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: css("--ink") },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--accent") },
      xaxis: {
        ...axis, showspikes: true, spikemode: "across", spikesnap: "hovered data", spikethickness: 1, spikedash: "dot",
        spikecolor: css("--soft"), ...xaxis, title: { text: xaxis.title, standoff: 8 },
      },
      yaxis: { ...axis, ...yaxis, title: { text: yaxis.title, standoff: 6 } },
      ...more,
    };
  }

  function plot(box, traces, look, tools = true) {
    Plotly.react(box, traces, look, {
      displaylogo: false, displayModeBar: tools ? "hover" : false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    });
    if (!box.dataset.tip) {
      box.dataset.tip = "yes";
      box.on("plotly_hover", ({ points }) => showTip(box, points));
      box.on("plotly_unhover", () => (tip.hidden = true));
    }
  }

  // The tooltip: every curve's value at the place of the pointer, the highest first. A trace's `text` says its values.
  const tip = document.getElementById("tip");
  function showTip(box, points) {
    const [{ x, data, pointNumber }] = points;
    const one = box.layout.hovermode === "closest";
    const found = one ? [{ trace: data, i: pointNumber }] : box.data
      .map((trace) => ({ trace, i: trace.hoverinfo === "skip" ? -1 : trace.x.indexOf(x) }))
      .filter(({ trace, i }) => i >= 0 && trace.y[i] !== null)
      .sort((a, b) => b.trace.y[b.i] - a.trace.y[a.i]);
    const head = document.createElement("strong");
    head.textContent = `${box.layout.meta.tip} ${Number(x.toPrecision(6)).toLocaleString("en", { maximumFractionDigits: 3 })}`;
    const rows = document.createElement("div");
    rows.style.gridTemplateRows = `repeat(${found.length > 12 ? Math.ceil(found.length / 2) : found.length}, auto)`;
    for (const { trace, i } of found) {
      const row = document.createElement("span");
      const sign = document.createElement("i");
      sign.style.borderTop = `3px ${{ dash: "dashed", dashdot: "dashed", dot: "dotted" }[trace.line?.dash] ?? "solid"} ${trace.line?.color ?? trace.marker.color}`;
      const value = document.createElement("b");
      value.textContent = trace.text[i];
      row.append(sign, ` ${trace.name} `, value);
      rows.append(row);
    }
    tip.replaceChildren(head, rows);
    tip.hidden = false;
    const plot = box.getBoundingClientRect();
    const axis = box._fullLayout.xaxis;
    const at = plot.left + axis._offset + axis.d2p(x);
    const room = document.documentElement.clientWidth;
    const left = at + 14 + tip.offsetWidth < room ? at + 14 : at - 14 - tip.offsetWidth;
    tip.style.left = `${Math.max(4, Math.min(left, room - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(plot.top + 30, innerHeight - tip.offsetHeight - 4))}px`;
  }

  // An axis of epochs or steps has whole numbers; of a single one, only that.
  const wholeAxis = (traces, log, wide, tickformat = "~r") => {
    const at = [...new Set(traces.flatMap((t) => t.x))];
    if (at.length === 1) return { type: "linear", tickformat, tickvals: at, range: [at[0] - 1, at[0] + 1] };
    const few = !log && Math.max(0, ...at) <= (wide ? 12 : 6);
    return { type: log ? "log" : "linear", tickformat, ...(few ? { dtick: 1 } : { nticks: wide ? 10 : 6 }) };
  };

  const places = { epochs: ["epochs trained", "epoch"], seconds: ["device-seconds of training", "device-seconds"], steps: ["steps", "step"] };

  // A metric by epoch, device-seconds or step, one line a method.
  function drawCurves(figure) {
    const { metric, x, logx, logy, papers } = settings(figure);
    const traces = [];
    let lacking = 0;
    for (const group of groupsOf(figure)) {
      if (!group.curves[metric] || off.has(group.method)) continue;
      const curve = x === "steps" ? group.stepped[metric] : group.curves[metric];
      const position = curve?.[x];
      if (!position) { lacking += 1; continue; }
      const method = DATA.methods[group.method];
      const line = { color: colour(group.method), dash: method.dash, width: 2.2 };
      if (curve.low) {
        traces.push({
          x: [...position, ...position.toReversed()], y: [...curve.high, ...curve.low.toReversed()], mode: "lines",
          fill: "toself", fillcolor: clear(line.color), line: { width: 0 }, hoverinfo: "skip", name: method.label,
        });
      }
      traces.push({
        x: position, y: curve.mean, name: method.label, mode: position.length > 40 ? "lines" : "lines+markers", line,
        marker: { size: 6, symbol: method.marker }, meta: { method: group.method, curve: true, estimated: group.estimated },
        customdata: curve.epochs, hoverinfo: "none",
        text: curve.mean.map((mean, i) => readable(mean, metric)
          + (curve.low && curve.count[i] > 1 ? ` (${readable(curve.low[i], metric)} to ${readable(curve.high[i], metric)}, ${curve.count[i]} seeds)` : "")
          + (x === "seconds" ? ` after epoch ${curve.epochs[i]}` : "")),
      });
      const theirs = papers && x === "epochs" && group.papers[metric];
      if (theirs) {
        traces.push({
          x: theirs.epochs, y: theirs.values, name: `${method.label}, paper`, mode: "markers",
          marker: { size: 10, symbol: "star", color: line.color, line: { color: css("--ink"), width: 1 } },
          text: theirs.values.map((v) => v.toFixed(1)), hoverinfo: "none", meta: { paper: true },
        });
      }
    }
    const box = figure.querySelector(".plot");
    const [title, head] = places[x];
    plot(box, traces, layout(box, 340, head,
      { title, ...wholeAxis(traces, logx, true, x === "epochs" ? "~r" : "~s") },
      { title: DATA.metrics[metric], type: logy ? "log" : "linear" },
      { hovermode: x === "seconds" ? "closest" : "x" }));
    say(box, `${DATA.metrics[metric]} by ${title}, ${traces.filter((t) => t.meta?.curve).length} methods`);
    figure.querySelector("figcaption").firstChild.textContent = capital(DATA.metrics[metric]) + " ";
    const estimated = x === "seconds" ? traces.filter((t) => t.meta?.estimated).map((t) => t.name) : [];
    warn(figure, [
      lacking ? `${lacking} of the methods have not measured this by ${places[x][0]}.` : "",
      estimated.length ? `Estimated from images a second: ${estimated.join("; ")}.` : "",
      lacking || traces.length ? "" : off.size ? "All methods that measured this are switched off." : "Nothing measured.",
    ].join(" ").trim());
    fillValues(figure, traces, x);
  }

  // Whole spectra after one epoch, one line a method.
  function drawProfile(figure) {
    const { source, after, logx, logy } = settings(figure);
    const traces = [];
    for (const group of groupsOf(figure)) {
      const profile = group.profiles[source];
      const values = profile?.after[after];
      if (!values || off.has(group.method)) continue;
      const method = DATA.methods[group.method];
      traces.push({
        x: profile.index, y: values, name: method.label, mode: "lines", meta: { method: group.method, curve: true },
        line: { color: colour(group.method), dash: method.dash, width: 2.2 }, text: values.map((v) => readable(v)), hoverinfo: "none",
      });
    }
    const box = figure.querySelector(".plot");
    plot(box, traces, layout(box, 340, "eigenvalue",
      { title: "number of the eigenvalue", type: logx ? "log" : "linear", tickformat: "~r" },
      { title: "share of the first", type: logy ? "log" : "linear" }));
    say(box, `whole spectrum of the ${source}, ${traces.length} methods`);
    warn(figure, traces.length ? "" : "No method that is switched on has a spectrum then.");
    fillValues(figure, traces, "index");
  }

  // One panel a method.
  function drawPanels(figure, hasData, draw) {
    const chosen = settings(figure).method;
    const panels = figure.querySelector(".panels");
    const groups = groupsOf(figure).filter((g) => hasData(g) && !off.has(g.method) && (chosen === "all" || +chosen === g.method));
    panels.classList.toggle("one", groups.length === 1);
    while (panels.childElementCount > groups.length) {
      Plotly.purge(panels.lastElementChild.querySelector(".plot"));
      panels.lastElementChild.remove();
    }
    while (panels.childElementCount < groups.length) {
      const panel = document.createElement("div");
      panel.className = "panel";
      panel.innerHTML = '<p class="name"></p><div class="plot"></div>';
      panels.append(panel);
      followArrowKeys(panel.querySelector(".plot"));
    }
    groups.forEach((group, i) => {
      const name = panels.children[i].querySelector(".name");
      name.textContent = DATA.methods[group.method].label;
      draw(group, panels.children[i].querySelector(".plot"), name, groups.length === 1 && !printing() ? 400 : 240);
    });
    warn(figure, groups.length ? "" : "No method that is switched on has this.");
  }

  function drawSpectrum(figure) {
    const { source, x, logx, logy, relative } = settings(figure);
    const colours = DATA.scale[dark() ? "dark" : "light"];
    drawPanels(figure, (g) => g.spectra[source], (group, box, name, height) => {
      const spectra = group.spectra[source];
      const bySteps = x === "step" && spectra.step !== null;
      const position = bySteps ? spectra.step : spectra.epoch;
      const first = spectra.values[0];
      const traces = spectra.values.map((values, i) => {
        const y = relative ? values.map((v, j) => (v === null || !first[j] ? null : v / first[j])) : values;
        return {
          x: position, y, name: String(i + 1), mode: position.length > 1 ? "lines" : "markers", hoverinfo: "none",
          line: { color: colours[i], width: 1.6 }, marker: { color: colours[i], size: 6 }, text: y.map((v) => readable(v)),
        };
      });
      const shapes = bySteps && source === "embeddings" && group.saturation !== null
        ? [{ type: "line", x0: group.saturation, x1: group.saturation, yref: "paper", y0: 0, y1: 1, line: { color: css("--ink"), width: 1.2, dash: "dash" } }]
        : [];
      const last = (statistic) => group.curves[`spectrum/${source}/${statistic}`]?.mean.at(-1);
      const said = [["condition number", last("condition_number")], ["entropy", last("entropy")]].filter(([, v]) => v !== undefined);
      if (said.length) {
        const small = document.createElement("small");
        small.textContent = said.map(([what, v]) => `${what} ${readable(v)}`).join(", ");
        name.append(small);
      }
      plot(box, traces, layout(box, height, bySteps ? "step" : "epoch",
        { title: bySteps ? "step" : "epochs trained", ...wholeAxis(traces, logx, false, bySteps ? "~s" : "~r") },
        { title: relative ? "share of the first" : source === "alignment" ? "alignment" : "eigenvalue", type: logy ? "log" : "linear" },
        { shapes }), false);
      say(box, `${DATA.sources[source]}, ${DATA.methods[group.method].label}, the first ${traces.length} over ${bySteps ? "the steps" : "the epochs"}`);
    });
  }

  const isLoss = (metric) => metric.startsWith("train/") && metric !== "train/online_top1";

  function drawLoss(figure) {
    const { logx, y } = settings(figure);
    drawPanels(figure, (g) => Object.keys(g.curves).some(isLoss), (group, box, name, height) => {
      const metrics = Object.keys(group.curves).filter(isLoss);
      const traces = metrics.map((metric, i) => ({
        x: group.curves[metric].epochs, y: group.curves[metric].mean, name: DATA.metrics[metric],
        mode: group.curves[metric].epochs.length > 40 ? "lines" : "lines+markers", marker: { size: 5 }, hoverinfo: "none",
        text: group.curves[metric].mean.map((v) => readable(v)),
        line: metric === "train/loss" ? { color: css("--ink"), width: 2.4 }
          : { color: DATA.terms[dark() ? "dark" : "light"][i % DATA.terms.light.length], width: 1.8, dash: ["dash", "dot", "dashdot"][i % 3] },
      }));
      const heights = traces.flatMap((t) => t.y).filter((v) => v !== null);
      const log = y === "auto" ? group.farApart : y === "log" && heights.every((v) => v > 0);
      plot(box, traces, layout(box, height, "epoch",
        { title: "epochs trained", ...wholeAxis(traces, logx, false) },
        { type: log ? "log" : "linear" },
        { showlegend: true, legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, font: { size: 12 } }, margin: { l: 48, r: 10, t: 30, b: 40 } }), false);
      say(box, `training loss and its terms by epoch, ${DATA.methods[group.method].label}`);
    });
  }

  const kinds = { curves: drawCurves, profile: drawProfile, spectrum: drawSpectrum, loss: drawLoss };

  const capital = (text) => (text[1] === "-" ? text : text.slice(0, 1).toUpperCase() + text.slice(1)); // k-NN

  // A plot is a picture to a screen reader; its values stand in the table below it.
  function say(box, text) {
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", text);
  }

  function warn(figure, text) {
    let line = figure.querySelector(".empty");
    if (!line) {
      line = document.createElement("p");
      line.className = "empty";
      figure.querySelector(".controls").after(line);
    }
    line.textContent = text;
    line.hidden = !text;
  }

  // The drawn values as a table, filled when it is opened.
  function fillValues(figure, traces, x) {
    const details = figure.querySelector(".values");
    details.fill = () => {
      const curves = traces.filter((t) => t.meta?.curve);
      const rows = new Map();
      curves.forEach((curve, column) => curve.x.forEach((_, i) => {
        const at = x === "seconds" ? curve.customdata[i] : curve.x[i];
        if (!rows.has(at)) rows.set(at, []);
        rows.get(at)[column] = x === "seconds" ? `${readable(curve.y[i])} at ${Math.round(curve.x[i]).toLocaleString("en")} s` : readable(curve.y[i]);
      }));
      const table = document.createElement("table");
      const head = table.createTHead().insertRow();
      for (const text of [x === "index" ? "eigenvalue" : x === "steps" ? "step" : "epoch", ...curves.map((t) => t.name)]) {
        const cell = document.createElement("th");
        cell.scope = "col";
        cell.textContent = text;
        head.append(cell);
      }
      const body = table.createTBody();
      for (const at of [...rows.keys()].sort((a, b) => a - b)) {
        const row = body.insertRow();
        row.insertCell().textContent = at;
        for (let i = 0; i < curves.length; i++) row.insertCell().textContent = rows.get(at)[i] ?? "";
      }
      details.querySelector(".scroll").replaceChildren(table);
    };
    if (details.open) details.fill();
  }

  // The arrow keys move through a focused plot as the pointer does.
  function followArrowKeys(box) {
    box.tabIndex = 0;
    let at = -1;
    box.addEventListener("keydown", (event) => {
      if (!["ArrowLeft", "ArrowRight", "Home", "End", "Escape"].includes(event.key) || !box.data) return;
      event.preventDefault();
      if (event.key === "Escape") return leave(box);
      const places = [...new Set(box.data.filter((t) => t.hoverinfo !== "skip").flatMap((t) => t.x))].sort((a, b) => a - b);
      if (!places.length) return;
      const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: places.length - 1 }[event.key];
      at = Math.max(0, Math.min(places.length - 1, next));
      const data = box.data.find((t) => t.hoverinfo !== "skip" && t.x.includes(places[at]));
      Plotly.Fx.hover(box, { xval: places[at] }, "xy");
      showTip(box, [{ x: places[at], data, pointNumber: data.x.indexOf(places[at]) }]);
    });
    box.addEventListener("blur", () => box.data && leave(box));
  }

  function leave(box) {
    Plotly.Fx.unhover(box);
    tip.hidden = true;
  }

  function draw(chart) {
    chart.drawn = true;
    kinds[chart.figure.dataset.kind](chart.figure);
    chart.width = chart.figure.clientWidth;
  }

  const redraw = () => charts.filter((chart) => chart.drawn).forEach(draw);

  // Figures are drawn as they come near the window, the rest when the browser has nothing else to do, and all before printing.
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const chart = charts.find((c) => c.figure === entry.target);
      if (entry.isIntersecting && !chart.drawn) draw(chart);
    }
  }, { rootMargin: "600px" });
  const resized = new ResizeObserver((entries) => {
    for (const entry of entries) {
      const chart = charts.find((c) => c.figure === entry.target);
      if (chart.drawn && !printing() && chart.figure.clientWidth !== chart.width) draw(chart);
    }
  });

  for (const figure of all("figure.chart")) {
    const chart = { figure, drawn: false };
    charts.push(chart);
    figure.addEventListener("change", () => draw(chart));
    figure.querySelector(".values")?.addEventListener("toggle", (event) => event.target.open && event.target.fill?.());
    const box = figure.querySelector(":scope > .plot");
    if (box) followArrowKeys(box);
    near.observe(figure);
    resized.observe(figure);
  }

  const whenIdle = (task) => (window.requestIdleCallback ? requestIdleCallback(task, { timeout: 1000 }) : setTimeout(task, 100));
  function drawRest() {
    const chart = charts.find((c) => !c.drawn);
    if (!chart) return;
    draw(chart);
    whenIdle(drawRest);
  }
  addEventListener("load", () => whenIdle(drawRest));

  // Theme: the system's until the button says otherwise.
  const themeButton = document.getElementById("theme");
  function showTheme() {
    themeButton.textContent = dark() ? "Light" : "Dark";
    const scale = DATA.scale[dark() ? "dark" : "light"];
    all(".gradient").forEach((g) => (g.style.background = `linear-gradient(to right, ${scale.join(", ")})`));
    redraw();
  }
  themeButton.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    showTheme();
  });
  system.addEventListener("change", showTheme);
  showTheme();

  // The legend: one for all figures; what is jumped to stands below it.
  const top = document.querySelector(".top");
  new ResizeObserver(() => root.style.setProperty("--top", `${top.offsetHeight}px`)).observe(top);
  function showMethods() {
    all(".chip").forEach((chip) => chip.setAttribute("aria-pressed", String(!off.has(+chip.dataset.method))));
    all(".key li").forEach((li) => li.classList.toggle("off", off.has(DATA.methods.findIndex((m) => m.label === li.dataset.methodLabel))));
    redraw();
  }
  all(".chip").forEach((chip) => chip.addEventListener("click", () => {
    const method = +chip.dataset.method;
    if (!off.delete(method)) off.add(method);
    showMethods();
  }));
  all("[data-show]").forEach((button) => button.addEventListener("click", () => {
    off.clear();
    if (button.dataset.show === "none") DATA.methods.forEach((_, i) => off.add(i));
    showMethods();
  }));

  // Tables: sorted by a click on a title, numbers by their unrounded value, what is missing last.
  all("button.sort").forEach((button) => button.addEventListener("click", () => {
    const title = button.parentElement;
    const table = title.closest("table");
    const column = title.cellIndex;
    const numeric = !title.classList.contains("words") || table.querySelector(`tbody td:nth-child(${column + 1})[data-value]`);
    const falling = title.ariaSort ? title.ariaSort === "ascending" : Boolean(numeric);
    const key = (row) => {
      const cell = row.cells[column];
      return numeric ? (cell.dataset.value === undefined ? NaN : +cell.dataset.value) : cell.textContent.trim().toLowerCase();
    };
    const compare = (a, b) => (numeric ? a - b : a.localeCompare(b)) * (falling ? -1 : 1);
    const rows = all("tr", table.tBodies[0]).map((row) => [key(row), row]);
    rows.sort(([a], [b]) => (Number.isNaN(a) || Number.isNaN(b) ? Number.isNaN(a) - Number.isNaN(b) : compare(a, b)));
    all("th", table.tHead).forEach((th) => th.removeAttribute("aria-sort"));
    title.ariaSort = falling ? "descending" : "ascending";
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }));

  // A choice between variants of a table.
  all("select.variant").forEach((select) => select.addEventListener("change", () => {
    for (const option of select.options) {
      const variant = document.querySelector(`[data-variant="${CSS.escape(`${select.dataset.part}-${option.value}`)}"]`);
      variant.hidden = option.value !== select.value;
    }
  }));

  // Search in the configurations: the lines that hold all the words.
  for (const input of all("input.search")) {
    const blocks = all("pre", document.getElementById(`${input.dataset.part}-configurations`));
    const whole = new Map(blocks.map((pre) => [pre, pre.textContent.trimEnd().split("\n")]));
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let found = 0;
      for (const pre of blocks) {
        const lines = whole.get(pre).filter((line) => words.every((word) => line.toLowerCase().includes(word)));
        found += lines.length;
        pre.textContent = lines.join("\n");
        pre.parentElement.open = words.length > 0 && lines.length > 0;
      }
      input.closest("p").querySelector("output").textContent = words.length ? `${found} lines` : "";
    });
  }

  // Paper is white, and as wide as it is.
  document.getElementById("print").addEventListener("click", () => print());
  let themeBefore;
  addEventListener("beforeprint", () => {
    themeBefore = root.dataset.theme;
    root.dataset.theme = "light";
    root.classList.add("printing");
    charts.forEach(draw);
  });
  addEventListener("afterprint", () => {
    root.classList.remove("printing");
    if (themeBefore === undefined) delete root.dataset.theme;
    else root.dataset.theme = themeBefore;
    redraw();
  });
})();
