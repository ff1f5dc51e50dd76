/* Pools: a tab each */

const tabs = $("[role=tablist]");
tabs.addEventListener("keydown", (event) => {
  const all = [...tabs.children], at = all.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  const tab = all[(to + all.length) % all.length];
  show(tab.pool);
  tab.focus();
});

function show(pool) {
  view.pool = view.picked = pool;
  ring.clear();
  render();
}

function drawTabs(pools) {
  const names = pools.map((pool) => pool.name), alone = names.length < 2;
  const missing = new Set([...model.lost.values()].map((lost) => lost.pool));
  const troubled = ({ name, ...pool }) => stalled(pool) || missing.has(name) || model.orders.get(name).some((number) => ["stuck", "suspect", "unable", "lost"].includes(model.state(number)));
  const marked = new Set(pools.filter(troubled).map(({ name }) => name));
  // The pool that something is wrong with is the first to be seen.
  view.pool = [view.picked, view.pool, names.find((name) => marked.has(name)), names[0]].find((name) => names.includes(name)) ?? null;
  view.picked ??= view.pool;
  if (JSON.stringify(names) !== tabs.names) {
    tabs.names = JSON.stringify(names);
    const focused = tabs.contains(document.activeElement) ? document.activeElement.pool : null;
    tabs.replaceChildren(...(alone ? [] : pools).map((pool) => {
      const tab = make("button", { role: "tab", type: "button", "aria-controls": "ring-panel", title: plain(pool.name) });
      tab.pool = pool.name;
      tab.addEventListener("click", () => show(pool.name));
      return tab;
    }));
    if (focused !== null) [...tabs.children].find((tab) => tab.pool === (names.includes(focused) ? focused : view.pool))?.focus();
    tabs.hidden = alone;
    $("#rings-title").classList.toggle("unseen", !alone);
    for (const [attribute, value] of [["role", "tabpanel"], ["aria-label", "The pool's ring"]]) {
      alone ? $("#ring-panel").removeAttribute(attribute) : $("#ring-panel").setAttribute(attribute, value);
    }
  }
  for (const tab of tabs.children) {
    const pool = pools.find(({ name }) => name === tab.pool);
    say(tab, `${plain(pool.name)} · ${count(pool.ring.length)}${marked.has(tab.pool) ? " ⚠\uFE0E" : ""}`);
    put(tab, "class", marked.has(tab.pool) ? "troubled" : "");
    put(tab, "aria-selected", String(tab.pool === view.pool));
    put(tab, "tabindex", tab.pool === view.pool ? "0" : "-1");
  }
  say($("#rings-title"), alone && names.length ? `Pool ${plain(names[0])}` : "Carousel");
}

/** Below the ring: the worker pointed at or chosen, or what holds the pool up, or how to read the ring. */
function drawReadout(pool) {
  const node = $("#readout"), number = view.pointed ?? view.chosen, worker = number === null ? null : model.worker(number), waits = stalled(pool);
  const [title, text] = worker ? describe(worker)
    : waits ? [`The turn waits for ${waits.name}: `, `its window is full (${count(waits.in_flight)} of ${count(waits.window)}), its oldest request is ${ms(waits.oldest_ms)} old, and ${many(pool.pending, "request waits", "requests wait")} behind it, for ${ms(pool.waits_ms)} now, though others have room. --rotation available would pass over it.`]
    : !pool ? [model.snapshot.pool_totals.length ? "No worker is registered. " : "No worker has registered yet. ", "The first that does takes the first seat."]
    : !pool.ring.length ? [model.orders.get(pool.name).some((number) => model.ghosts.has(number)) ? "The last worker of this pool was lost. " : model.orders.get(pool.name).some((number) => model.state(number) === "unable") ? "No worker of this pool can compute for now. " : "No seat is taken. ", pool.pending ? `${many(pool.pending, "request waits", "requests wait")} for a worker.` : "The next worker to join takes the first."]
    : model.orders.get(pool.name).length > SEATED ? ["", "A cell is a seat; turns go from left to right, row by row, and a worker that joins sits down at the end. Point at a cell, click it, or use the arrow keys, for more."]
    : ["", `The order of turns is clockwise from the mark; who joins sits down at the tail. ${ring.hand.flows
      ? "At this rate the hand only shows that turns go round: too fast to say whose is next. " : ""}Point at a seat, or click it, for more.`];
  node.classList.toggle("warns", !worker && waits !== null);
  if (node.shown === title + text) return;
  node.shown = title + text;
  node.replaceChildren(make("b", { class: "peer", text: title }), make("span", { class: "peer", text }));
}

/** What became of a worker that is lost. */
const fate = (lost) => `Dropped ${ms(model.snapshot.uptime_ms - lost.at_ms)} ago: ${plain(lost.reason)}. ${lost.returned ? `${many(lost.returned, "request")} of its ${lost.returned === 1 ? "was" : "were"} taken back${moved(lost.number)}` : "It held no requests"}`;

/** As far as that has been seen. */
function moved(number) {
  const { returned = 0, left = 0 } = model.ghosts.get(number) ?? {}, seen = Math.min(returned, returned - left);
  return seen > 0 ? `, ${count(seen)} moved to the next seats` : "";
}

function describe(worker) {
  const state = model.state(worker.number), ghost = model.ghosts.get(worker.number), lost = model.lost.get(worker.number), label = `${worker.name} w${worker.number} · ${state}. `;
  if (lost) return [label, `${fate(lost)}.`];
  if (ghost) return [label, `${many(ghost.returned, "request")} of its taken back${moved(worker.number)}.`];
  if (worker.unable) return [label, `It can compute nothing for now: ${plain(worker.unable)}. It hands back what it gets, and takes a seat again when it can.`];
  const oldest = worker.in_flight ? `, the oldest for ${ms(worker.oldest_ms)}` : "";
  return [label, `${count(worker.in_flight)} of ${count(worker.window)} in flight${oldest}: ${count(worker.computing)} computing on ${many(worker.threads, "thread")}, ` +
    `${count(worker.waiting)} waiting. Last pong ${ms(worker.pong_age_ms)} ago${worker.pings_out > 1 ? `, ${many(worker.pings_out, "ping")} unanswered` : ""}. ` +
    `Joined ${ms(worker.registered_ms)} ago${worker.host ? ` on ${worker.host}` : ""}${worker.address ? `, ${worker.address}` : ""}. Operations: ${plain(worker.operations.join(", "))}.`];
}
