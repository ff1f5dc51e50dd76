/* The ring */

const FEW = 8;            // Up to so many seats are discs with names, more are spokes, and more than SEATED cells.
const FLOWS_FROM = 4;     // From so many dispatches a second the hand goes round evenly; below it goes from seat to seat.

class Ring {
  constructor(stage) {
    this.stage = stage;
    this.svg = $("svg.ring", stage);
    this.track = make("svg:circle", { class: "track" }, this.svg);
    this.seam = make("svg:path", { class: "seam" }, this.svg);
    this.seamText = make("svg:text", { class: "seam-text" }, this.svg);
    this.moves = $("svg.moves", stage);          // A drawing of its own: what moves on it doesn't have the seats painted anew.
    this.seats = make("svg:g", {}, this.svg);
    this.rate = make("svg:text", { class: "hub-rate" }, this.svg);
    this.unit = make("svg:text", { class: "hub-soft" }, this.svg);
    this.waiting = make("svg:text", {}, this.svg);
    this.hand = new Hand($(".hand", stage));
    this.drawn = new Map();       // number -> its parts
    this.drawnMoves = "";
    this.size = this.few = 0;
    new ResizeObserver(() => render()).observe(stage);
    this.svg.addEventListener("click", (event) => choose(this.under(event)));
    this.svg.addEventListener("pointerover", (event) => point(this.under(event)));
    this.svg.addEventListener("pointerleave", () => point(null));
  }

  under(event) { return event.target.closest?.(".seat")?.number ?? null; }

  clear() {
    this.seats.replaceChildren();
    this.drawn.clear();
    this.stage.classList.remove("settled");
  }

  draw(pool) {
    const order = pool ? model.orders.get(pool.name) : [], few = order.length <= FEW, size = this.stage.clientWidth;
    if (!size) return;
    if (size !== this.size || few !== this.few) {
      this.size = size;
      this.tall = this.stage.clientHeight;
      this.few = few;
      this.clear();
    }
    this.lay(order.length);
    const turn = pool && pool.ring.length ? pool.ring[pool.turn % pool.ring.length] : null;
    for (const [number, seat] of this.drawn) {
      if (order.includes(number)) continue;
      seat.group.remove();
      this.drawn.delete(number);
    }
    this.waits = stalled(pool);
    this.shared = shared(order.map((number) => model.worker(number).name));
    this.hand.show(pool, turn === null ? null : this.angle(order.indexOf(turn)), this.inner, this.waits !== null);
    this.stage.classList.toggle("flows", this.hand.flows);
    this.stage.classList.toggle("few", few);
    this.stage.classList.toggle("many", this.pitch < 10);
    order.forEach((number, place) => {
      const seat = this.drawn.get(number) ?? this.build(number), state = model.state(number), worker = model.worker(number);
      const angle = this.angle(place);
      const marked = state !== "idle" && state !== "busy" || number === view.chosen || number === view.pointed || model.joined.has(number);
            put(seat.group, "class", `seat ${state}${number === turn && !this.hand.flows ? " turn" : ""}${number === view.chosen || number === view.pointed ? " chosen" : ""}` +
        `${model.joined.has(number) ? " joined" : ""}${worker === this.waits ? " waits" : ""}${model.moves.some((move) => move.to === number) ? " gains" : ""}`);
      if (this.few) this.disc(seat, worker, state, angle);
      else this.spoke(seat, worker, state, angle, this.pitch >= 10 || marked);
    });
    this.drawMoves(order);
    this.drawHub(pool, order);
    requestAnimationFrame(() => this.stage.classList.add("settled"));
  }

  /** Measures for so many seats. All in CSS pixels from the centre; 0° is at the top, where the tail meets the head. */
  lay(seats) {
    const half = this.size / 2;
    this.step = 360 / Math.max(1, seats);
    if (this.few) {
      this.radius = clamp(this.size * .078, 22, 34);
      this.orbit = Math.min(half - 54, this.tall / 2 - this.radius - 46);
      this.inner = this.orbit - this.radius - 15;
    } else {
      const outer = half - clamp(this.size * .19, 62, 88);
      this.length = clamp(outer * .3, 26, 50);
      this.orbit = outer - this.length;
      this.inner = this.orbit - 15;
      this.pitch = 2 * Math.PI * (this.orbit + this.length / 2) / seats;
      this.width = clamp(this.pitch * .66, 1.4, 22);
    }
    for (const svg of [this.svg, this.moves]) put(svg, "viewBox", `${-half} ${-this.tall / 2} ${this.size} ${this.tall}`);
    put(this.track, "r", this.inner);
    put(this.seam, "d", `M0 ${-this.inner - 7}V${-this.inner + 7}`);
    put(this.seamText, "y", -this.inner - 13);
    say(this.seamText, seats && this.few ? "tail · head" : "");
  }

  angle(place) { return (place + .5) * this.step; }

  build(number) {
    const group = make("svg:g", {}, this.seats), body = make("svg:g", { class: "body" }, group), seat = { group, body };
    group.number = number;
    const part = (key, name, attributes = {}) => { seat[key] = make(`svg:${name}`, { class: key, ...attributes }, body); };
    if (this.few) {
      const r = this.radius;
      part("halo", "circle", { r: r + 6 });
      part("burst", "circle", { r, class: "halo burst" });
      part("base", "circle", { r });
      part("rim", "circle", { r: r - 6 });
      part("gauge", "circle", { r: r - 3, "stroke-width": 6, pathLength: 100, transform: "rotate(-90)", "stroke-dasharray": "0 100" });
      part("mark", "use", { x: -r * .36, y: -r * .36, width: r * .72, height: r * .72 });
      for (const key of ["name", "load", "word"]) part(key, "text");
    } else {
      for (const [key, name] of [["halo", "rect"], ["base", "rect"], ["fill", "rect"], ["mark", "use"], ["name", "text"]]) part(key, name);
    }
    this.drawn.set(number, seat);
    return seat;
  }

  disc(seat, worker, state, angle) {
    const share = state === "lost" ? 0 : clamp(worker.in_flight / Math.max(1, worker.window), 0, 1) * 100, up = angle < 89 || angle > 271;
    const word = this.word(worker, state), lines = word ? [14, 28, 42] : [14, 28], y = up ? lines.map((line) => line - lines.at(-1) - 10) : lines.map((line) => line + 5);
    const place = (line) => y[line] + (up ? -this.radius : this.radius);
    const out = state === "leaving" || state === "unable" ? 10 : 0;
    this.turnTo(seat.group, `rotate(${angle}deg) translate(0px, ${-this.orbit - out}px) rotate(${-angle}deg)`);
    put(seat.gauge, "stroke-dasharray", `${share && Math.max(2, share).toFixed(1)} 100`);
    put(seat.mark, "href", `#s-${state}`);
    say(seat.name, brief(worker.name, 15, this.shared));
    say(seat.load, state === "lost" ? "" : `${count(worker.in_flight)} / ${count(worker.window)}`);
    say(seat.word, word);
    put(seat.name, "y", place(0));
    put(seat.load, "y", place(1));
    put(seat.word, "y", place(state === "lost" ? 1 : Math.min(2, lines.length - 1)));
  }

  /** What is to be said of a seat besides its figures; mostly nothing. */
  word(worker, state) {
    const returned = model.ghosts.get(worker.number)?.returned;
    if (state === "lost") return returned ? `lost · ${count(returned)} taken back` : "lost";
    if (state === "stuck") return `stuck ${ms(worker.oldest_ms)}`;
    if (state === "suspect") return `suspect ${ms(worker.pong_age_ms)}`;
    if (state === "leaving" || state === "unable") return state;
    if (model.joined.has(worker.number)) return "joined";
    const gain = model.moves.reduce((sum, move) => sum + (move.to === worker.number ? move.count : 0), 0);
    if (gain) return `+${count(gain)} taken over`;
    if (worker === this.waits) return "full: turn waits";
    return worker.in_flight && worker.oldest_ms >= 5000 ? `oldest ${ms(worker.oldest_ms)}` : "";
  }

  spoke(seat, worker, state, angle, marked) {
    const { width, length } = this, round = Math.min(5, width / 2), lost = state === "lost", out = state === "leaving" || state === "unable" ? 6 : 0;
    const filled = lost || !worker.in_flight ? 0 : Math.max(2, length * clamp(worker.in_flight / Math.max(1, worker.window), 0, 1));
    this.turnTo(seat.group, `rotate(${angle}deg) translate(0px, ${-this.orbit - out}px)`);
    for (const [key, grow, height] of [["halo", 3, length], ["base", 0, length], ["fill", 0, filled]]) {
      put(seat[key], "x", -width / 2 - grow);
      put(seat[key], "y", -height - grow);
      put(seat[key], "width", width + 2 * grow);
      put(seat[key], "height", height + 2 * grow);
      if (key !== "halo") put(seat[key], "rx", Math.min(round, height / 2));
    }
    const side = clamp(marked ? Math.max(10, width * .75) : 0, 0, 12);
    put(seat.mark, "href", `#s-${state}`);
    put(seat.mark, "display", marked ? "inline" : "none");
    for (const [key, value] of [["x", -side / 2], ["y", -length - side - 4], ["width", side], ["height", side]]) put(seat.mark, key, value);
    const right = angle < 180;
    put(seat.name, "transform", `translate(0 ${-length - 20}) rotate(${right ? -90 : 90})`);
    put(seat.name, "style", `text-anchor:${right ? "start" : "end"};font-size:10.5px;dominant-baseline:central;font-weight:500`);
    say(seat.name, brief(worker.name, this.size < 360 ? 8 : 10, this.shared));
  }

  turnTo(group, transform) {
    if (group.at !== transform) group.style.transform = group.at = transform;
  }

  /** Requests of the lost on their way round the ring to the seats that take them. */
  drawMoves(order) {
    const moves = model.moves.filter(({ from, to }) => order.includes(from) && order.includes(to));
    const key = JSON.stringify([moves.map(({ from, to, count }) => [from, to, count]), order, this.size]);
    if (key === this.drawnMoves) return;
    this.drawnMoves = key;
    this.moves.replaceChildren();
    const rim = this.few ? this.orbit - this.radius - 3 : this.orbit - 3;
    moves.forEach(({ from, to, count: moved }) => {
      const start = this.angle(order.indexOf(from)), span = (this.angle(order.indexOf(to)) - start + 360) % 360 || 360;
      const dip = rim - this.inner * (.98 - span / 360 * .3), points = [];
      for (let part = 0; part <= 32; part++) {
        const at = (start + span * part / 32) * Math.PI / 180, reach = rim - dip * Math.sin(Math.PI * part / 32) ** .7;
        points.push(`${(reach * Math.sin(at)).toFixed(1)} ${(-reach * Math.cos(at)).toFixed(1)}`);
      }
      make("svg:path", { class: "move", d: `M${points.join("L")}`, "stroke-width": clamp(2 + Math.log10(moved), 2.5, 5) }, this.moves);
      // Which way they go is seen also when nothing moves.
      const [[x0, y0], [x, y]] = points.slice(-3).filter((_, at) => at !== 1).map((point) => point.split(" ").map(Number));
      const way = Math.atan2(y - y0, x - x0) * 180 / Math.PI, size = this.few ? 1 : .7;
      make("svg:path", { class: "move-head", d: "M3 0L-9 6.5L-6 0L-9 -6.5Z", transform: `translate(${x} ${y}) rotate(${way.toFixed(1)}) scale(${size})` }, this.moves);
    });
  }

  drawHub(pool, order) {
    const letters = pool ? perSecond(pool.rate).length : 1, big = clamp(Math.min(this.inner * .36, this.inner * 2 / letters), 16, 36), { rate, unit, waiting } = this;
    put(rate, "style", `font-size:${big}px`);
    put(rate, "y", big * .16);
    put(unit, "y", big * .16 + 17);
    put(waiting, "y", big * .16 + 34);
    if (!pool || !pool.ring.length) {
      say(rate, "");
      say(unit, order.length ? "No worker is left" : model.snapshot.pool_totals.length ? "No workers" : "No workers yet");
      say(waiting, pool?.pending ? `${count(pool.pending)} pending` : "");
      put(waiting, "class", "hub-warn");
      put(unit, "y", 4);
      put(waiting, "y", 22);
      put(this.svg, "aria-label", pool && order.length ? `Pool ${plain(pool.name)} has no seat; ${states(order)}.` : "No workers");
      return;
    }
    say(rate, perSecond(pool.rate));
    say(unit, "dispatched / s");
    say(waiting, this.inner < 66 ? "" : pool.pending ? `${count(pool.pending)} pending` : "none pending");
    put(waiting, "class", pool.pending && pool.oldest_ms >= 1000 ? "hub-warn" : "hub-soft");
    put(this.svg, "aria-label", `Ring of pool ${plain(pool.name)}: ${many(pool.ring.length, "seat")}; ${states(order)}. The table of workers tells each.`);
  }
}

/** The hand that points at the seat whose turn is next. Fast dispatch would make it flicker: then it goes round evenly. */
class Hand {
  constructor(node) {
    this.node = node;
    this.degrees = 0;
    this.flow = null;
    this.shape = make("svg:g", { fill: "none", stroke: "currentColor", "stroke-width": 3, "stroke-linecap": "round" }, $("svg", node));
  }

  show(pool, target, radius, waits) {
    this.node.hidden = target === null;
    this.flows = target !== null && pool.rate >= FLOWS_FROM * (this.flows ? .75 : 1);
    if (target === null) return this.stop();
    this.node.classList.toggle("waits", waits);
    if (radius !== this.radius) this.build(this.radius = radius);
    this.node.classList.toggle("flows", this.flows);
    if (this.flows && !motionless.matches) this.run(pool.rate);
    else this.go(target);
  }

  build(radius) {
    this.shape.replaceChildren();
    [[8, 30, .22], [8, 20, .35], [8, 12, .6]].forEach(([from, to, opacity]) => {
      const [a, b] = [from, to].map((degrees) => degrees * Math.PI / 180);
      make("svg:path", { d: `M${-radius * Math.sin(a)} ${-radius * Math.cos(a)}A${radius} ${radius} 0 0 0 ${-radius * Math.sin(b)} ${-radius * Math.cos(b)}`, opacity }, this.shape);
    });
    const half = radius < 66 ? 6 : 8;
    make("svg:path", { d: `M0 ${-radius - half - 1}l${half} ${half * 1.6}h${-2 * half}Z`, fill: "currentColor", "stroke-width": 2, "stroke-linejoin": "round" }, this.shape);
  }

  /** Round and round, a little faster the higher the rate: 12° a second at 4, 36° at 10,000. */
  run(rate) {
    if (!this.flow) {
      this.stop();
      this.flow = this.node.animate({ transform: [0, 360].map((turn) => `rotate(${this.degrees + turn}deg)`) }, { duration: 36000, iterations: Infinity });
    }
    const speed = Math.round((12 + 7 * Math.log10(Math.max(1, rate / FLOWS_FROM))) / 5) / 2;
    if (speed !== this.speed) this.flow.updatePlaybackRate(this.speed = speed);
  }

  /** To a seat, forward, except for the little way back that a change of the seats makes. */
  go(target) {
    this.stop();
    const ahead = (target - this.degrees % 360 + 720) % 360, way = ahead > 300 ? ahead - 360 : ahead, from = this.degrees;
    if (this.placed && Math.abs(way) < .5) return;
    this.degrees += way;
    this.node.style.transform = `rotate(${this.degrees}deg)`;
    if (this.placed && !motionless.matches) {
      this.node.animate({ transform: [from, this.degrees].map((degrees) => `rotate(${degrees}deg)`) }, { duration: 450, easing: "cubic-bezier(.3, .7, .2, 1)" });
    }
    this.placed = true;
  }

  stop() {
    if (!this.flow) return;
    this.degrees += (this.flow.currentTime ?? 0) / 100 % 360;
    this.node.style.transform = `rotate(${this.degrees}deg)`;
    this.flow.cancel();
    this.flow = this.speed = null;
  }

  pause(paused) { if (this.flow) paused ? this.flow.pause() : this.flow.play(); }
}

/** The worker a pool's strict rotation waits for, and has for more than a moment, while others have room. */
function stalled(pool) {
  return pool?.waits_ms >= 200 ? model.workers.get(pool.waits_for) ?? null : null;
}

function states(numbers) {
  const tally = {};
  for (const number of numbers) tally[model.state(number)] = (tally[model.state(number)] ?? 0) + 1;
  return ["lost", "suspect", "stuck", "unable", "leaving", "busy", "idle"].filter((state) => tally[state]).map((state) => `${count(tally[state])} ${state}`).join(", ");
}
