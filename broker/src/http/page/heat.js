/* The ring of a large pool: a cell for each seat, row by row in the order of turns */

const SEATED = 24;        // Up to so many have a seat that is drawn, of more each has a cell.
const LEVELS = 4;         // How many shades a window has, besides the empty one's.
const SIDES = { most: 34, marked: 9, least: 4 };

class Heat {
  constructor(node) {
    this.node = node;
    this.grid = $("[role=listbox]", node);
    [this.rate, this.pending, this.tally] = [".rate-of", ".pending-of", ".tally"].map((part) => $(part, node));
    this.cells = new Map();       // number -> its cell
    this.order = "";
    this.numbers = [];
    for (let level = 0; level <= LEVELS; level++) make("i", { class: `cell ${level ? "busy" : "idle"} l${level}` }, $(".scale span", node));
    new ResizeObserver(() => render()).observe(node);
    this.grid.addEventListener("click", (event) => choose(event.target.number ?? null));
    this.grid.addEventListener("pointerover", (event) => point(event.target.number ?? null));
    this.grid.addEventListener("pointerleave", () => point(null));
    this.grid.addEventListener("blur", () => point(null));
    this.grid.addEventListener("keydown", (event) => this.press(event));
  }

  /** The arrow keys go from seat to seat, Enter chooses one. */
  press(event) {
    const at = this.numbers.indexOf(view.pointed ?? view.chosen), last = this.numbers.length - 1;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + this.columns, ArrowUp: at - this.columns, Home: 0, End: last }[event.key];
    if (event.key === "Enter" && at >= 0) choose(this.numbers[at]);
    if (to === undefined) return;
    event.preventDefault();
    point(this.numbers[clamp(to, 0, last)]);
  }

  draw(pool, order) {
    const turn = pool.ring.length && pool.rate < FLOWS_FROM ? pool.ring[pool.turn % pool.ring.length] : null, waits = stalled(pool);
    this.lay(order);
    const gains = new Set(model.moves.map(({ to }) => to)), pointed = view.pointed ?? view.chosen;
    for (const number of order) {
      const cell = this.cells.get(number), worker = model.worker(number), state = model.state(number);
      const share = state === "lost" || !worker.in_flight ? 0 : Math.ceil(LEVELS * clamp(worker.in_flight / Math.max(1, worker.window), 0, 1));
      put(cell, "class", `cell ${state} l${share}${number === turn ? " turn" : ""}${worker === waits ? " waits" : ""}${gains.has(number) ? " gains" : ""}` +
        `${number === view.chosen || number === view.pointed ? " chosen" : ""}`);
      if (number !== pointed) continue;
      put(cell, "aria-label", describe(worker).join(""));
      put(this.grid, "aria-activedescendant", cell.id);
    }
    say(this.rate, perSecond(pool.rate));
    say(this.pending, pool.pending ? `${count(pool.pending)} pending` : "none pending");
    put(this.pending, "class", `pending-of${pool.pending && pool.oldest_ms >= 1000 ? " warns" : ""}`);
    say(this.tally, `${many(pool.ring.length, "seat")}: ${states(order)}`);
    put(this.grid, "aria-label", `Seats of pool ${plain(pool.name)} in the order of turns. ${states(order)}. Arrow keys go from one to the next.`);
  }

  /** Places the cells, as large as fits, when seats have come or gone. */
  lay(order) {
    const width = this.grid.clientWidth, key = `${width}:${order.join()}`;
    if (key === this.order) return;
    this.order = key;
    this.numbers = order;
    const { side, gap, columns } = this.fit(order.length, width);
    this.columns = columns;
    put(this.grid, "style", `--side:${side}px;gap:${gap}px;grid-template-columns:repeat(${columns},${side}px)`);
    this.grid.classList.toggle("marked", side >= SIDES.marked);
    const before = this.cells;
    this.cells = new Map(order.map((number) => [number, before.get(number) ?? this.build(number)]));
    this.grid.replaceChildren(...this.cells.values());
  }

  fit(cells, width) {
    for (let side = SIDES.most; ; side--) {
      const gap = side >= SIDES.marked ? 2 : 1, columns = Math.max(1, Math.floor((width + gap) / (side + gap)));
      if (side === SIDES.least || Math.ceil(cells / columns) * (side + gap) <= width * .95) return { side, gap, columns };
    }
  }

  build(number) {
    const cell = make("i", { id: `cell-${number}`, role: "option" });
    cell.number = number;
    return cell;
  }
}
