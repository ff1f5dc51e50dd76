/* What is known */

const GHOST_MS = 8000, MOVE_MS = 3600, JOINED_MS = 5000;

/** What there is to tell of a worker that is lost. */
const GONE = { state: "lost", seat: null, in_flight: 0, computing: 0, oldest_ms: 0, window: 0, answered: 0, rate: 0, round_trip_us: 0, redispatched_from: 0 };

/** The seconds of a pool in which nothing was answered. */
const NOTHING = { step_ms: 1000, rate: [], p50_us: [], p99_us: [] };

/** The last snapshot, and what it no longer tells: who was lost a moment ago, from where, and who took over. */
const model = {
  snapshot: null, startedAt: 0, sequence: 0,
  workers: new Map(),   // number -> worker
  lost: new Map(),      // number -> worker: the dropped that have not come back
  ghosts: new Map(),    // number -> { worker, returned, left, until }: the lost, for some seconds on their old places; `left` of `returned` have not been seen to move
  joined: new Map(),    // number -> until: who has just sat down
  moves: [],            // { from, to, count, until }: requests on their way from a ghost to a seat
  places: new Map(),    // pool -> its place among the pools
  named: false,         // whether a worker says which host it is on
  orders: new Map(),    // pool -> numbers as they are drawn: the ring, with ghosts and leavers on their old places

  /** Whether another broker tells it than before: one that was started later. `anew`: over a new connection. */
  isAnothers(snapshot, anew) {
    if (!this.snapshot) return false;
    return snapshot.uptime_ms < this.snapshot.uptime_ms || (anew && Math.abs(Date.now() - snapshot.uptime_ms - this.startedAt) > 1000);
  },

  /** Takes a snapshot in; returns the events it brought. */
  take(snapshot, restarted) {
    for (const peer of [...snapshot.workers, ...snapshot.clients, ...snapshot.lost]) peer.name = plain(peer.name);
    for (const peer of [...snapshot.workers, ...snapshot.lost]) peer.host = plain(peer.host);
    for (const host of snapshot.hosts) host.name = plain(host.name);
    for (const event of snapshot.events) event.text = plain(event.text);
    for (const job of snapshot.jobs?.live ?? []) [job.name, job.pool] = [plain(job.name), plain(job.pool)];
    // Between two handfuls none may be in flight; who answers thousands a second does not idle.
    for (const worker of snapshot.workers) if (worker.state === "idle" && worker.rate) worker.state = "busy";
    if (restarted) {
      for (const known of [this.workers, this.ghosts, this.joined, this.orders]) known.clear();
      this.moves = [];
      this.sequence = 0;
      view.chosen = view.pointed = null;
    }
    const first = !this.snapshot || restarted, workers = new Map(snapshot.workers.map((worker) => [worker.number, worker]));
    if (first) this.startedAt = Date.now() - snapshot.uptime_ms;
    const fresh = snapshot.events.filter((event) => event.sequence > this.sequence);
    this.sequence = snapshot.events.at(-1)?.sequence ?? this.sequence;
    this.forget();
    if (!first) {
      for (const [number, { registered_ms }] of workers) if (!this.workers.has(number) && registered_ms < JOINED_MS) this.joined.set(number, now() + JOINED_MS);
      const recent = fresh.filter((event) => event.at_ms > snapshot.uptime_ms - 5000);
      // Their events may have been too many to keep.
      for (const { number, returned, at_ms } of snapshot.lost) if (at_ms > snapshot.uptime_ms - 5000) this.lose(this.workers.get(number), returned);
      for (const event of recent) this.note(event, workers, snapshot.pools);
    }
    this.workers = workers;
    this.lost = new Map(snapshot.lost.map((lost) => [lost.number, { ...GONE, ...lost }]));
    this.snapshot = snapshot;
    this.haunt(snapshot);
    this.named = snapshot.workers.some((worker) => worker.host);
    this.places = new Map(snapshot.pools.map(({ name }, at) => [name, at]));
    for (const pool of snapshot.pools) this.orders.set(pool.name, this.arrange(pool));
    for (const name of this.orders.keys()) if (!snapshot.pools.some((pool) => pool.name === name)) this.orders.delete(name);
    return fresh;
  },

  /** A pool that has lost its last worker stays, and its lost on their places, as long as the broker tells of them. */
  haunt(snapshot) {
    const deserted = new Set([...this.lost.values()].map(({ pool }) => pool));
    for (const { name, ring } of snapshot.pools) if (ring.length) deserted.delete(name);
    for (const worker of this.lost.values()) {
      if (!deserted.has(worker.pool)) continue;
      this.lose(worker, worker.returned);
      this.ghosts.get(worker.number).until = now() + GHOST_MS;
    }
    for (const { name } of snapshot.pools) deserted.delete(name);
    for (const name of deserted) snapshot.pools.push({ name, ring: [], turn: 0, pending: 0, oldest_ms: 0, rate: 0, history: NOTHING });
    snapshot.pools.sort((a, b) => (a.name < b.name ? -1 : 1));
  },

  forget() {
    for (const [number, ghost] of this.ghosts) if (ghost.until < now()) this.ghosts.delete(number);
    for (const [number, until] of this.joined) if (until < now()) this.joined.delete(number);
    if (this.moves.length) this.moves = this.moves.filter((move) => move.until > now());
  },

  note(event, workers, pools) {
    if (event.kind === "dropped") this.lose(this.workers.get(event.worker), event.count ?? 0);
    else if (event.kind === "redispatch") {      // The requests of the first lost are the first to be handed out again.
      const taker = workers.get(event.worker), total = event.count ?? 1;
      const [from, ghost] = [...this.ghosts].find(([, { worker, left }]) => left > 0 && (!taker || worker.pool === taker.pool)) ?? [];
      if (!ghost) return;
      ghost.left -= total;
      const { ring, turn } = pools.find(({ name }) => name === ghost.worker.pool) ?? { ring: [], turn: 0 };
      // Without a taker's number they are drawn to as many of the next seats as there are requests.
      const takers = taker ? [taker.number] : [...ring.slice(turn), ...ring.slice(0, turn)].slice(0, total);
      takers.forEach((to, at) => this.move(from, to, Math.floor(total / takers.length) + (at < total % takers.length)));
    }
  },

  lose(worker, returned) {
    if (worker && !this.ghosts.has(worker.number)) this.ghosts.set(worker.number, { worker, returned, left: returned, until: now() + GHOST_MS });
  },

  move(from, to, count) {
    const known = this.moves.find((move) => move.from === from && move.to === to);
    if (known) known.count += count;
    else if (this.moves.length < 96) this.moves.push({ from, to, count, until: now() + MOVE_MS });
  },

  /** The ring, with those who have no seat any more behind those they sat behind. */
  arrange({ name, ring }) {
    const order = [...ring], before = this.orders.get(name) ?? [], seated = new Set(ring);
    const unseated = (worker) => worker && (worker.leaving || worker.unable);
    const stays = (number) => this.ghosts.has(number) || unseated(this.workers.get(number));
    before.forEach((number, place) => {
      if (seated.has(number) || !stays(number)) return;
      seated.add(number);
      const neighbour = before.slice(0, place).findLast((other) => order.includes(other));
      order.splice(neighbour === undefined ? 0 : order.indexOf(neighbour) + 1, 0, number);
    });
    for (const worker of this.workers.values()) {
      if (worker.pool === name && unseated(worker) && !order.includes(worker.number)) order.push(worker.number);
    }
    for (const [number, { worker }] of this.ghosts) if (worker.pool === name && !order.includes(number)) order.push(number);
    return order;
  },

  worker(number) { return this.workers.get(number) ?? this.ghosts.get(number)?.worker ?? this.lost.get(number); },
  state(number) { return this.workers.get(number)?.state ?? "lost"; },
  time(at_ms) { return clock.format(this.startedAt + at_ms); },
};

/** What of a snapshot the pool that is looked at has a part in; all of it if there is no other. */
function scoped(snapshot) {
  const pool = snapshot.pools.length > 1 ? snapshot.pools.find(({ name }) => name === view.pool) : null;
  if (!pool) return { ...snapshot, only: null };
  const workers = snapshot.workers.filter((worker) => worker.pool === pool.name), { history, pending } = pool;
  const counted = snapshot.pool_totals.find(({ name }) => name === pool.name) ?? {}, answered = (counted.succeeded ?? 0) + (counted.failed ?? 0);
  return {
    ...snapshot, only: pool.name, pools: [pool], workers, history, pending,
    lost: snapshot.lost.filter((lost) => lost.pool === pool.name),
    in_flight: workers.reduce((sum, worker) => sum + worker.in_flight, 0),
    latency_us: { p50: history.p50_us.at(-1) ?? 0, p99: history.p99_us.at(-1) ?? 0 },
    totals: { ...snapshot.totals, ...counted, answered },
    events: snapshot.events.filter(({ worker }) => (model.worker(worker)?.pool ?? pool.name) === pool.name),
  };
}

/** What the reader looks at. */
const view = { pool: null, picked: null, chosen: null, pointed: null };       // `picked`: the pool to go back to when it is there again
