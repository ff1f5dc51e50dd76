/* Tables */

const ALL = 80;           // Up to so many rows are all there, of more only those in sight and some around them.
const AROUND = 20;
const collator = new Intl.Collator("en", { numeric: true });

/**
 * A table whose rows stay with their keys. A column: { label, title, width, number, value(row), text(row), cell(td, row) }. A row of
 * which there is no more to tell than one sentence has that, `note(row)`, instead of its `live` columns, which are the last.
 */
class Table {
  constructor(section, columns, key, { limit = Infinity, note = () => null, down = false } = {}) {
    Object.assign(this, { columns, key, limit, note, down, sort: columns[0], rows: new Map(), places: new Map(), order: "" });
    this.node = $("table", section);
    this.body = $("tbody", section);
    this.scroller = this.node.parentNode;
    this.gaps = ["before", "after"].map((where) => {
      const gap = make("tbody", { "aria-hidden": "true" });
      this.body[where](gap);
      return gap;
    });
    this.scroller.addEventListener("scroll", () => this.data && this.draw(this.data), { passive: true });
    for (const column of columns) {
      const head = column.head = make("th", { scope: "col", class: column.number ? "num" : "", style: `width:${column.width}px` }, $("thead tr", section));
      const button = make("button", { type: "button", text: column.label, title: column.title ?? "" }, head);
      button.addEventListener("click", () => {
        this.down = this.sort === column ? !this.down : Boolean(column.number && !column.small);
        this.sort = column;
        this.draw(this.data, true);
      });
    }
  }

  draw(data, now = false) {
    this.data = data;
    const columns = this.columns.filter((column) => !column.only || column.only());
    this.drawHeads(columns);
    const sorted = this.arrange(data, now), [from, to] = this.sight(sorted.length), shown = sorted.slice(from, to), keys = shown.map(this.key);
    const kept = new Set(keys);
    for (const [key, row] of this.rows) if (!kept.has(key)) { row.remove(); this.rows.delete(key); }
    for (const item of shown) this.fill(this.rows.get(this.key(item)) ?? this.build(this.key(item)), item, columns);
    put(this.node, "aria-rowcount", String(sorted.length + 1));
    const order = `${from}:${keys.join()}`;
    if (order !== this.order) {
      this.order = order;
      const focused = document.activeElement;
      keys.forEach((key, at) => {
        const row = this.rows.get(key);
        put(row, "aria-rowindex", String(from + at + 2));
        if (this.body.children[at] !== row) this.body.insertBefore(row, this.body.children[at] ?? null);
      });
      if (this.body.contains(focused)) focused.focus({ preventScroll: true });
    }
    this.space(from, sorted.length - to);
  }

  drawHeads(columns) {
    for (const column of this.columns) {
      column.head.hidden = !columns.includes(column);
      if (column === this.sort) put(column.head, "aria-sort", this.down ? "descending" : "ascending");
      else if (column.head.known?.["aria-sort"]) { column.head.removeAttribute("aria-sort"); column.head.known["aria-sort"] = null; }
    }
    const width = `${columns.reduce((sum, column) => sum + column.width, 0)}px`;
    if (this.node.style.minWidth !== width) this.node.style.minWidth = width;
  }

  /** Sorts. Rows don't change places under the pointer, unless asked to or somebody came or went. */
  arrange(data, now) {
    const places = this.places, still = !now && places.size === Math.min(data.length, this.limit) && this.body.matches(":hover") && data.every((item) => places.has(this.key(item)));
    if (still) return [...data].sort((a, b) => places.get(this.key(a)) - places.get(this.key(b)));
    const { value } = this.sort, sign = this.down ? -1 : 1, compare = (x, y) => (typeof x === "string" ? collator.compare(x, y) : x - y);
    const valued = data.map((item) => [value(item), this.key(item), item]);
    valued.sort(([x, a], [y, b]) => sign * compare(x, y) || compare(a, b));
    const sorted = valued.slice(0, this.limit).map(([, , item]) => item);
    this.places = new Map(sorted.map((item, at) => [this.key(item), at]));
    return sorted;
  }

  /** The rows that are in sight, or nearly. */
  sight(rows) {
    if (rows <= ALL) return [0, rows];
    const tall = this.tall ??= this.body.firstChild?.offsetHeight || null;
    const first = clamp(Math.floor(this.scroller.scrollTop / (tall ?? 30)) - AROUND, 0, rows - 1);
    return [first, Math.min(rows, first + Math.ceil((this.scroller.clientHeight || 600) / (tall ?? 30)) + 2 * AROUND)];
  }

  /** Leaves room for the rows that are not there. */
  space(above, below) {
    [above, below].forEach((rows, at) => {
      const gap = this.gaps[at];
      if (!rows) return gap.replaceChildren();
      put(gap.firstChild ?? make("tr", {}, gap), "style", `height:${rows * (this.tall ?? 30)}px`);
    });
  }

  build(key) {
    const row = make("tr", {}, this.body);
    row.key = key;
    row.figures = this.columns.map((column, at) => make("td", { role: at ? "cell" : "rowheader", class: `${column.number ? "num" : ""} ${column.class ?? ""}`.trim() }, row));
    row.note = make("td", { role: "cell", class: "note peer" }, row);
    this.rows.set(key, row);
    return row;
  }

  fill(row, item, columns) {
    const note = this.note(item);
    row.note.hidden = note === null;
    if (note !== null) {
      say(row.note, note);
      put(row.note, "title", note);
      put(row.note, "colspan", String(columns.filter((column) => column.live).length));
    }
    this.columns.forEach((column, index) => {
      const cell = row.figures[index];
      cell.hidden = !columns.includes(column) || (note !== null && Boolean(column.live));
      if (cell.hidden) return;
      if (column.cell) column.cell(cell, item);
      else say(cell, column.text(item));
    });
  }
}

const poolRates = new Map();
let nameLetters = 16;       // As many as the column has room for.
const share = (worker) => worker.rate / (poolRates.get(worker.pool) || Infinity);
const STATES = ["lost", "suspect", "stuck", "unable", "leaving", "busy", "idle"];

/** A place below that of all others, for those that something is wrong with. */
const rank = (worker) => (["lost", "suspect", "stuck", "unable"].includes(worker.state) ? 0 : 1);

/** How much of its window a worker, or a host, holds. */
function drawShare(td, { in_flight, window }) {
  if (!td.firstChild) { td.figure = make("span", {}, td); td.bar = make("span", { class: "bar" }, td); }
  say(td.figure, `${count(in_flight)} / ${count(window)}`);
  put(td.bar, "style", `background-size:${(clamp(in_flight / Math.max(1, window), 0, 1) * 100).toFixed(1)}% 100%`);
}

const workers = new Table($("#workers"), [
  { label: "Name", width: 140, value: (w) => w.name, cell(td, w) {
    if (!td.firstChild) {
      const button = make("button", { type: "button", class: "peer" }, td);
      button.addEventListener("click", () => choose(w.number));
      button.addEventListener("focus", () => { if (button.matches(":focus-visible")) point(w.number); });
      button.addEventListener("blur", () => point(null));
    }
    say(td.firstChild, shorten(w.name, nameLetters));
    put(td.firstChild, "title", `${w.name} w${w.number}`);
    put(td.firstChild, "aria-pressed", String(view.chosen === w.number));
    put(td.parentNode, "class", `${w.state}${view.chosen === w.number ? " chosen" : ""}`);
  } },
  { label: "Seat", title: "Its place in the rotation", width: 60, number: true, small: true, value: (w) => rank(w) * 1e12 + (model.places.get(w.pool) ?? 1e4) * 1e7 + (w.seat ?? 9e6), text: (w) => (w.seat === null ? "–" : count(w.seat + 1)) },
  { label: "Pool", width: 80, class: "peer", only: () => model.snapshot.pools.length > 1, value: (w) => w.pool, text: (w) => plain(w.pool) },
  { label: "State", width: 86, value: (w) => STATES.indexOf(w.state), cell(td, w) {
    if (!td.firstChild) { const state = make("span", { class: "state" }, td); td.use = glyph(w.state, state); td.word = make("span", {}, state); }
    put(td.use, "href", `#s-${w.state}`);
    say(td.word, w.state);
  } },
  { label: "Address", width: 134, class: "mono peer", only: () => !model.named || innerWidth >= 1420, value: (w) => w.address, text: (w) => w.address },
  { label: "Host", title: "The machine it says it is on", width: 100, class: "peer", only: () => model.named, value: (w) => w.host, text: (w) => w.host || "–" },
  { label: "In flight / window", title: "Requests it holds, of those it may", width: 98, number: true, live: true, value: (w) => w.in_flight / Math.max(1, w.window), cell: drawShare },
  { label: "Oldest", title: "For how long it has been computing the oldest of its requests", width: 78, number: true, live: true, value: (w) => (w.computing ? w.oldest_ms : -1), text: (w) => (w.computing ? ms(w.oldest_ms) : "–") },
  { label: "Answered", width: 96, number: true, live: true, value: (w) => w.answered, text: (w) => count(w.answered) },
  { label: "Rate", title: "Answered a second", width: 76, number: true, live: true, value: (w) => w.rate, text: (w) => `${perSecond(w.rate)} /s` },
  { label: "Share", title: "Of the rate of its pool", width: 64, number: true, live: true, value: share, text: (w) => (w.rate > 0 ? `${(share(w) * 100).toFixed(1)} %` : "–") },
  { label: "Ping", title: "Round trip of the last answered ping", width: 68, number: true, live: true, value: (w) => w.round_trip_us ?? 0, text: (w) => us(w.round_trip_us) },
  { label: "Serv. p50", title: "Time a request takes it: half take less", width: 78, number: true, live: true, value: (w) => w.service_us?.p50 ?? 0, text: (w) => us(w.service_us?.p50) },
  { label: "Serv. p99", title: "Time a request takes it: 99 of 100 take less", width: 78, number: true, live: true, value: (w) => w.service_us?.p99 ?? 0, text: (w) => us(w.service_us?.p99) },
  { label: "Re-dispatched", title: "Requests that were taken from it and handed to others", width: 106, number: true, live: true, value: (w) => w.redispatched_from, text: (w) => count(w.redispatched_from) },
], (worker) => worker.number, { note: (worker) => (worker.state === "lost" ? fate(worker) : null) });
workers.sort = workers.columns[1];

const clients = new Table($("#clients"), [
  { label: "Name", width: 180, class: "peer", value: (c) => c.name, text: (c) => c.name },
  { label: "Address", width: 160, class: "mono peer", value: (c) => c.address, text: (c) => c.address },
  { label: "Unanswered", width: 110, number: true, value: (c) => c.unanswered, text: (c) => count(c.unanswered) },
  { label: "Answered", width: 120, number: true, value: (c) => c.answered, text: (c) => count(c.answered) },
], (client) => client.number, { limit: 100 });

function drawTables(snapshot) {
  poolRates.clear();
  for (const worker of snapshot.workers) poolRates.set(worker.pool, (poolRates.get(worker.pool) ?? 0) + worker.rate);
  nameLetters = Math.max(12, Math.floor((workers.columns[0].head.offsetWidth - 26) / 7.6));
  drawWorkers(snapshot);
  drawJobs(snapshot.jobs);
  clients.draw(snapshot.clients);
  const hidden = snapshot.clients.length - clients.limit;
  say($("#clients-title"), `Clients · ${count(snapshot.clients.length) === "0" ? "none" : count(snapshot.clients.length)}${hidden > 0 ? `, the first ${clients.limit} shown` : ""}`);
}
