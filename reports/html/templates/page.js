"use strict";
// The state is in the fragment: #sort.TABLE=COLUMN.desc&q=TEXT&task=..&model=..&ended=..&run=ID; a section's name alone
// is a section. Data are only ever set as text.
(() => {
  const byId = (id) => document.getElementById(id);
  const make = (name, text, attributes = {}) => {
    const element = document.createElement(name);
    if (text !== undefined && text !== null) element.textContent = String(text);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const NUMBER = /^[+-]?(\d[\d,]*)?\.?\d+(e[+-]?\d+)?/i;

  // State

  const section = () => !location.hash.includes("=");
  const read = () => new URLSearchParams(section() ? "" : location.hash.slice(1));
  let state = read();
  const set = (changes) => {
    for (const [key, value] of Object.entries(changes)) {
      if (value === "") state.delete(key);
      else state.set(key, value);
    }
    const hash = state.toString() ? `#${state}` : location.pathname + location.search;
    history.replaceState(null, "", hash);
    apply();
  };

  // Sorting: numbers by value, texts after numbers, what is missing last either way.

  const valueOf = (text) => {
    const found = NUMBER.exec(text.trim());
    return found ? parseFloat(found[0].replaceAll(",", "")) : null;
  };
  const compare = (a, b, down) => {
    const [x, y] = [valueOf(a), valueOf(b)];
    if (x !== null && y !== null) return down ? y - x : x - y;
    if (x !== null || y !== null) return x === null ? 1 : -1;
    const [p, q] = [a.trim() === "—", b.trim() === "—"];
    if (p !== q) return p ? 1 : -1;
    return (down ? -1 : 1) * a.localeCompare(b, "en");
  };
  const sorting = (id) => {
    const [, column, order] = /^(\d+)\.(asc|desc)$/.exec(state.get(`sort.${id}`) || "") || [];
    return column === undefined ? null : { column: Number(column), down: order === "desc" };
  };
  const mark = (table, order) => {
    table.querySelectorAll("thead th").forEach((cell, column) => {
      if (order && order.column === column) cell.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
  };
  const tables = [...document.querySelectorAll("table.sortable")].map((table) => {
    const rows = [...table.tBodies[0].rows];
    return { table, rows, texts: rows.map((row) => [...row.cells].map((cell) => cell.textContent)), order: "" };
  });
  const sortTable = (entry) => {
    const order = sorting(entry.table.id);
    mark(entry.table, order);
    if (JSON.stringify(order) === entry.order) return;
    entry.order = JSON.stringify(order);
    const places = entry.rows.map((_, place) => place);
    if (order && order.column < entry.table.tHead.rows[0].cells.length) {
      const { column, down } = order;
      places.sort((a, b) => compare(entry.texts[a][column], entry.texts[b][column], down) || a - b);
    }
    entry.table.tBodies[0].append(...places.map((place) => entry.rows[place]));
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.sort");
    if (!button) return;
    const [cell, table] = [button.closest("th"), button.closest("table")];
    const order = sorting(table.id);
    const column = cell.cellIndex;
    // The better end of scores first; then the other; then the report's own order.
    const first = column === 0 ? "asc" : "desc";
    const second = first === "asc" ? "desc" : "asc";
    const now = order && order.column === column ? (order.down ? "desc" : "asc") : "";
    const next = { "": first, [first]: second, [second]: "" }[now];
    set({ [`sort.${table.id}`]: next && `${column}.${next}` });
  });

  // Filter: every word must be in the row, whatever its case.

  const words = () => (state.get("q") || "").toLowerCase().split(/\s+/).filter(Boolean);
  const holds = (texts, wanted) => {
    const text = texts.join(" ").toLowerCase();
    return wanted.every((word) => text.includes(word));
  };
  const filterTable = (entry) => {
    const wanted = words();
    let shown = 0;
    entry.rows.forEach((row, place) => {
      row.hidden = !holds(entry.texts[place], wanted);
      shown += row.hidden ? 0 : 1;
    });
    return shown;
  };

  // Runs: the data are read when first needed, the panels' one line at a time.

  const once = (make) => { let value; return () => (value === undefined ? (value = make()) : value); };
  const data = once(() => JSON.parse(byId("runs-data").textContent));
  const extras = once(() => byId("extras-data").textContent.trim().split("\n"));
  const thumbnails = once(() => JSON.parse(byId("thumbnails-data").textContent));
  const column = once(() => Object.fromEntries(data().columns.map((name, number) => [name, number])));
  const value = (run, name) => {
    const number = column()[name];
    const places = data().places[number];
    return data().values[number][places ? places[run] : 0];
  };
  const runs = once(() => Array.from({ length: data().count }, (_, run) => run));
  const score = (row) => { const v = value(row, "score"); return v === null ? "—" : v.toFixed(4); };
  const listed = once(() => runs().map((row) =>
    [...["row", "task", "base_model", "seed", "ended"].map((name) => String(value(row, name))), score(row),
      value(row, "run_id")]));
  const STEP = 200;
  let most = STEP;
  const CHOICES = { task: 1, model: 2, ended: 4 };

  const choose = () => {
    for (const [name, column] of Object.entries(CHOICES)) {
      const select = byId(`choose-${name}`);
      for (const text of [...new Set(listed().map((texts) => texts[column]))].sort()) {
        select.append(make("option", text, { value: text }));
      }
      select.addEventListener("change", () => set({ [name]: select.value }));
    }
  };
  const listRuns = () => {
    const [table, wanted, order] = [byId("runs-table"), words(), sorting("runs-table")];
    const kept = listed().filter((texts) => holds(texts, wanted)
      && Object.entries(CHOICES).every(([name, column]) => !state.get(name) || texts[column] === state.get(name)));
    if (order && order.column < 7) kept.sort((a, b) => compare(a[order.column], b[order.column], order.down));
    mark(table, order);
    table.tBodies[0].replaceChildren(...kept.slice(0, most).map((texts) => {
      const row = make("tr");
      row.append(make("th", texts[0], { scope: "row" }), ...texts.slice(1, 6).map((text) => make("td", text)));
      const cell = make("td");
      cell.append(make("a", texts[6], { href: `#run=${texts[6]}` }));
      row.append(cell);
      return row;
    }));
    byId("runs-caption").textContent = `Runs: ${Math.min(most, kept.length)} shown of ${kept.length}`;
    byId("more").hidden = kept.length <= most;
  };

  // A run's panel

  const NUMBERS = new Intl.NumberFormat("en", { maximumFractionDigits: 6 });
  const shown = (v) => {
    if (v === null || v === undefined) return "—";
    if (typeof v === "number") return NUMBERS.format(v);
    if (Array.isArray(v)) return v.map(shown).join(" | ");
    return typeof v === "object" ? JSON.stringify(v) : String(v);
  };
  const pairs = (title, entries) => {
    const block = make("section");
    const table = make("table", null, { class: "plain" });
    table.append(make("caption", title));
    const body = table.createTBody();
    for (const [name, v] of entries) {
      const row = body.insertRow();
      row.append(make("th", name, { scope: "row" }), make("td", shown(v)));
    }
    block.append(table);
    return block;
  };
  const isPicture = (v) => v !== null && typeof v === "object" && Number.isInteger(v.picture);
  const cell = (v) => {
    if (!isPicture(v)) return make("td", shown(v));
    const found = make("td");
    found.append(make("img", null, { src: `data:image/jpeg;base64,${thumbnails()[v.picture]}`, alt: "Picture of the example" }));
    return found;
  };
  const grid = (title, columns, rows) => {
    const table = make("table", null, { class: "plain grid" });
    table.append(make("caption", title));
    const head = table.createTHead().insertRow();
    head.append(...columns.map((name) => make("th", name, { scope: "col" })));
    const body = table.createTBody();
    for (const values of rows) {
      const cells = values.map(cell);
      // On a narrow screen each example is a card, whose lines are named.
      cells.forEach((one, number) => { one.dataset.name = columns[number]; one.setAttribute("role", "cell"); });
      const row = body.insertRow();
      row.setAttribute("role", "row");
      row.append(...cells);
    }
    const frame = make("div", null, { class: "wide", tabindex: "0", role: "region", "aria-label": title });
    frame.append(table);
    return frame;
  };
  const NS = byId("drawing").namespaceURI;
  const draw = (name, attributes, text) => {
    const element = document.createElementNS(NS, name);
    for (const [key, v] of Object.entries(attributes)) element.setAttribute(key, v);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const curve = ({ steps, losses }) => {
    const [left, right, top, bottom] = [56, 550, 12, 180];
    const [low, high] = [Math.min(...losses), Math.max(...losses)];
    const x = (step) => left + (right - left) * (step - steps[0]) / ((steps[steps.length - 1] - steps[0]) || 1);
    const y = (loss) => bottom - (bottom - top) * (loss - low) / ((high - low) || 1);
    const label = `Training loss from ${losses[0]} at step ${steps[0]} to ${losses[losses.length - 1]} at step ${steps[steps.length - 1]}`;
    const svg = draw("svg", { viewBox: "0 0 560 215", class: "curve", role: "img", "aria-label": label });
    for (const loss of [low, high]) {
      svg.append(draw("line", { x1: left, x2: right, y1: y(loss), y2: y(loss) }));
      svg.append(draw("text", { x: left - 6, y: y(loss) + 4, "text-anchor": "end" }, Number(loss.toPrecision(3))));
    }
    svg.append(draw("path", { d: steps.map((step, k) => `${k ? "L" : "M"}${x(step).toFixed(1)} ${y(losses[k]).toFixed(1)}`).join("") }));
    if (steps.length === 1) svg.append(draw("circle", { cx: x(steps[0]), cy: y(losses[0]), r: 3 }));
    svg.append(draw("text", { x: left, y: 200 }, `step ${steps[0]}`));
    svg.append(draw("text", { x: right, y: 200, "text-anchor": "end" }, `step ${steps[steps.length - 1]}`));
    return svg;
  };
  const GROUPS = [["metric", "Reported split"], ["selection", "Selection split"], ["examples", "Examples"],
    ["ledger", "Parameter ledger"], ["cost", "Cost (seconds, bytes)"], ["retention", "Log-likelihood of general text"], ["version", "Versions"], ["hardware", "Hardware"]];
  const fill = (row) => {
    const all = data().columns.map((name) => [name, value(row, name)]);
    const body = byId("panel-body");
    body.replaceChildren();
    byId("panel-title").textContent = `${value(row, "row")} on ${value(row, "task")}, seed ${value(row, "seed")}`;
    if (value(row, "small")) body.append(make("p", document.body.dataset.label, { class: "mini" }));
    body.append(make("p", `Ended: ${value(row, "ended")}. ${value(row, "reason") || ""}`));
    for (const note of value(row, "notes") || []) body.append(make("p", `Warning: ${note}`));
    const groups = make("div", null, { class: "groups" });
    groups.append(pairs("Setting", Object.entries(value(row, "setting"))));
    groups.append(pairs("Training", Object.entries(value(row, "training"))));
    const options = value(row, "options");
    if (options) groups.append(pairs("Task options", Object.entries(options)));
    for (const [prefix, title] of GROUPS) {
      const found = all.filter(([name, v]) => name.startsWith(`${prefix}/`) && v !== null)
        .map(([name, v]) => [name.slice(prefix.length + 1), v]);
      if (found.length) groups.append(pairs(title, found));
    }
    const own = all.filter(([name, v]) => v !== null && !["setting", "training", "options", "notes", "ended", "reason"].includes(name)
      && !GROUPS.some(([prefix]) => name.startsWith(`${prefix}/`)));
    body.append(groups);
    const extra = JSON.parse(extras()[row]);
    body.append(make("h3", "Training loss"));
    body.append(extra.curve ? curve(extra.curve) : make("p", "No training loss was logged.", { class: "note" }));
    body.append(make("h3", "Predictions"));
    if (extra.predictions) {
      const { columns, rows, total } = extra.predictions;
      body.append(grid(`The first ${rows.length} of ${NUMBERS.format(total)} examples`, columns, rows));
    } else body.append(make("p", "There are no per-example rows to show.", { class: "note" }));
    body.append(pairs("Run and provenance", own));
  };
  const panel = byId("panel");
  let opened = null;
  const showRun = () => {
    const wanted = state.get("run");
    const number = wanted ? runs().findIndex((row) => value(row, "run_id") === wanted) : -1;
    if (number < 0) {
      opened = null;
      if (panel.open) panel.close();
      return;
    }
    if (opened !== wanted) fill(number);
    opened = wanted;
    if (!panel.open) panel.showModal();
  };
  // The browser closes it for the escape key; it tells late, when another run may be open again.
  panel.addEventListener("close", () => { if (!panel.open && state.get("run")) set({ run: "" }); });
  byId("close").addEventListener("click", () => set({ run: "" }));

  // All together

  const apply = () => {
    for (const entry of tables) {
      sortTable(entry);
      filterTable(entry);
    }
    if (byId("filter").value !== (state.get("q") || "")) byId("filter").value = state.get("q") || "";
    for (const name of Object.keys(CHOICES)) byId(`choose-${name}`).value = state.get(name) || "";
    const shownRows = tables.reduce((sum, { rows }) => sum + rows.filter((row) => !row.hidden).length, 0);
    byId("filtered").textContent = words().length ? `${shownRows} rows of the tables` : "";
    listRuns();
    showRun();
  };
  byId("filter").addEventListener("input", (event) => set({ q: event.target.value }));
  byId("more").addEventListener("click", () => { most += STEP; listRuns(); });
  window.addEventListener("hashchange", () => {
    if (section()) {
      state.delete("run");
      showRun();
      return;
    }
    // A link to a run keeps the sorting and the filter.
    const asked = read();
    if ([...asked.keys()].join() === "run") set({ run: asked.get("run") });
    else { state = asked; apply(); }
  });
  // What is folded is printed, too.
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
  choose();
  apply();
})();
