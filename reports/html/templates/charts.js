"use strict";
// Interactive figures: the views of each chart are laid out for the width there is, and drawn when they come near the
// window. If that fails, the static figures are shown, as they are where no script runs. Data are only ever set as text.
(() => {
  const byId = (id) => document.getElementById(id);
  const make = (name, text, attributes = {}) => {
    const element = document.createElement(name);
    if (text !== undefined && text !== null) element.textContent = String(text);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const root = document.documentElement;
  const { charts, methods } = JSON.parse(byId("charts-data").textContent);
  const NARROW = 640; // pixels: below it one view a line
  const LEAST_VIEW = 150; // pixels
  const LETTER = 6.6; // pixels
  const hidden = new Set();
  const drawn = new Map(); // by name: the view, the width it was drawn for

  // How it looks, light or dark

  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const config = () => {
    const [ink, soft, line] = ["ink", "soft", "line"].map(colour);
    const text = { labelColor: ink, titleColor: ink, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" };
    return {
      background: "transparent",
      font: "system-ui, sans-serif",
      view: { stroke: null },
      axis: { ...text, domainColor: soft, tickColor: soft, gridColor: line, gridOpacity: 0.6 },
      legend: { ...text, symbolSize: 70, symbolOpacity: 1 },
      title: { color: ink, fontSize: 12, fontWeight: "bold", offset: 8 },
      text: { fontSize: 12 },
      concat: { spacing: 14 },
    };
  };
  const params = (chart) => [
    ...["ink", "soft", "back", "better", "worse"].map((name) => ({ name, value: colour(name) })),
    { name: "hidden", value: [...hidden] },
    { name: "cost", value: chart.chosen || "" },
  ];

  // Layout

  const layers = (view) => (view.layer ? view.layer : [view]);
  const withChoice = (view, chart) => {
    if (!chart.choices) return view;
    const choice = chart.choices[chart.chosen];
    for (const layer of layers(view)) {
      const { x } = layer.encoding;
      layer.encoding.x = { ...x, scale: choice.scale, axis: { ...x.axis, ...choice.axis, title: choice.title } };
    }
    return view;
  };
  const named = (view, shown) => {
    if (view.encoding && view.encoding.y && view.encoding.y.axis) view.encoding.y.axis.labels = shown;
    return view;
  };
  const layout = (chart, width) => {
    const isNarrow = width < NARROW;
    const labels = chart.letters ? Math.min(176, LETTER * chart.letters + 14) : 0;
    const aside = chart.aside && !isNarrow ? 230 : 0;
    const around = chart.letters ? 62 : 64; // ranks at the right, or the axis at the left, and the space between
    const most = isNarrow ? 1 : chart.views.length === 4 ? 2 : 3;
    const fitting = Math.floor((width - labels - aside) / (LEAST_VIEW + around));
    const across = Math.max(1, Math.min(most, fitting, chart.views.length));
    const inner = Math.max(90, Math.floor((width - labels - aside) / across - around));
    return { isNarrow, across, inner: Math.min(inner, 420) };
  };
  const specification = (chart, { isNarrow, across, inner }, width) => {
    const copy = structuredClone({ views: chart.views, aside: chart.aside });
    const lines = [];
    copy.views.forEach((view, number) => {
      view.width = inner;
      const first = number % across === 0;
      if (first) lines.push({ hconcat: [] });
      lines[lines.length - 1].hconcat.push(withChoice(named(view, first), chart));
    });
    if (copy.aside) {
      if (isNarrow) lines.push({ hconcat: [named(copy.aside, true)] });
      else lines[0].hconcat.push(named(copy.aside, false));
    }
    const columns = Math.max(1, Math.floor(width / 170));
    for (const view of copy.views) {
      for (const { encoding } of layers(view)) {
        for (const one of [encoding.color, encoding.shape]) if (one && one.legend) one.legend.columns = columns;
      }
    }
    return { params: params(chart), vconcat: lines, spacing: 18 };
  };

  // Hovering

  const box = byId("hover");
  const place = ({ clientX, clientY }) => {
    const { offsetWidth, offsetHeight } = box;
    const left = clientX + 16 + offsetWidth > innerWidth ? clientX - 16 - offsetWidth : clientX + 16;
    const top = clientY + 16 + offsetHeight > innerHeight ? clientY - 16 - offsetHeight : clientY + 16;
    box.style.left = `${Math.max(4, left)}px`;
    box.style.top = `${Math.max(4, top)}px`;
  };
  const hover = (handler, event, item, value) => {
    const lines = value && item && item.datum && item.datum.hover;
    box.hidden = !lines;
    if (!lines) return;
    const list = make("dl");
    for (const [name, text] of lines) list.append(make("dt", name), make("dd", text));
    box.replaceChildren(list);
    place(event.touches ? event.touches[0] || event.changedTouches[0] : event);
  };

  // Drawing

  const giveUp = (error) => {
    root.classList.remove("charts");
    const text = `Interactive figures are not drawn (${error && error.message}); the static ones are shown.`;
    if (!byId("charts-failed")) document.querySelector("main").prepend(make("p", text, { id: "charts-failed", class: "note" }));
  };
  const embed = (holder, spec) => vegaEmbed(holder, spec, {
    mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip: hover, config: config(),
  });
  const draw = async (name) => {
    const [chart, holder] = [charts[name], byId(name).querySelector(".drawing")];
    const width = holder.clientWidth;
    if (!width) return;
    const before = drawn.get(name);
    const plan = layout(chart, width);
    drawn.set(name, { ...before, width });
    let result = await embed(holder, specification(chart, plan, width));
    const excess = holder.scrollWidth - holder.clientWidth;
    if (excess > 0 && plan.inner > 90) { // names were wider than reckoned
      result.finalize();
      plan.inner = Math.max(90, plan.inner - Math.ceil(excess / plan.across));
      result = await embed(holder, specification(chart, plan, width));
    }
    // The drawing is one image, which has a name and a table.
    holder.querySelector("svg").setAttribute("aria-hidden", "true");
    if (before && before.result) before.result.finalize();
    drawn.set(name, { result, width });
    result.view.addEventListener("click", (event, item) => {
      if (item && item.datum && item.datum.run) location.hash = `#run=${item.datum.run}`;
    });
    holder.dataset.drawn = "";
  };
  const redraw = () => [...drawn.keys()].forEach((name) => draw(name).catch(giveUp));

  // What a reader chooses

  const boxes = [];
  const summaries = [];
  const filter = () => {
    for (const one of boxes) one.checked = !hidden.has(one.value);
    for (const one of summaries) one.textContent = `Methods shown: ${methods.length - hidden.size} of ${methods.length}`;
    for (const { result } of drawn.values()) if (result) result.view.signal("hidden", [...hidden]).runAsync().catch(giveUp);
  };
  const methodChoice = () => {
    const details = make("details");
    const [summary, set] = [make("summary"), make("fieldset")];
    set.append(make("legend", "Methods in all interactive figures"));
    for (const name of methods) {
      const [label, one] = [make("label"), make("input", null, { type: "checkbox", value: name })];
      one.addEventListener("change", () => { hidden[one.checked ? "delete" : "add"](name); filter(); });
      boxes.push(one);
      label.append(one, ` ${name}`);
      set.append(label);
    }
    for (const [text, change] of [["All", () => hidden.clear()], ["None", () => methods.forEach((name) => hidden.add(name))]]) {
      const button = make("button", text, { type: "button" });
      button.addEventListener("click", () => { change(); filter(); });
      set.append(button);
    }
    summaries.push(summary);
    details.append(summary, set);
    return details;
  };
  const costChoice = (name, chart) => {
    const [label, select] = [make("label", "Cost "), make("select")];
    for (const cost of Object.keys(chart.choices)) select.append(make("option", cost, { value: cost }));
    select.addEventListener("change", () => { chart.chosen = select.value; draw(name).catch(giveUp); });
    label.append(select);
    return label;
  };

  // All together

  const start = () => {
    root.classList.add("charts");
    const near = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        draw(target.id).catch(giveUp);
      }
    }, { rootMargin: "600px" });
    for (const [name, chart] of Object.entries(charts)) {
      const tools = byId(name).querySelector(".chart-tools");
      if (chart.choices) {
        chart.chosen = Object.keys(chart.choices)[0];
        tools.append(costChoice(name, chart));
      }
      tools.append(methodChoice());
      near.observe(byId(name));
    }
    filter();
    let waiting = 0;
    addEventListener("resize", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        for (const [name, { width }] of drawn) {
          if (byId(name).querySelector(".drawing").clientWidth !== width) draw(name).catch(giveUp);
        }
      }, 200);
    });
    addEventListener("scroll", () => { box.hidden = true; }, { passive: true });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  };
  try {
    start();
  } catch (error) {
    giveUp(error);
  }
})();
