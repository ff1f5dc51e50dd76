/* Drawing it all */

function choose(number) {
  view.chosen = view.chosen === number ? null : number;
  const worker = number === null ? null : model.worker(number);
  if (worker && worker.pool !== view.pool && model.orders.has(worker.pool)) show(worker.pool);
  else render(true);
}

function point(number) {
  if (view.pointed === number) return;
  view.pointed = number;
  render();
}

const ring = new Ring($(".stage")), heat = new Heat($(".heat"));
const plots = [
  new Plot($("#plot-rate"), "Throughput", [["rate", "answered", "rate"]], (value) => `${perSecond(value)} / s`, false),
  new Plot($("#plot-latency"), "Latency", [["p50_us", "p50", "p50"], ["p99_us", "p99", "p99"]], us, true),
];
const LONG = 16;
let figuresAt = -Infinity, members = "";

/** A pool's seats: on the ring, or as cells if they are many. */
function drawSeats(pool) {
  const order = pool ? model.orders.get(pool.name) : [], many = order.length > SEATED;
  ring.stage.hidden = many;
  heat.node.hidden = !many;
  if (many) {
    ring.hand.show(pool, null);
    heat.draw(pool, order);
  } else ring.draw(pool);
}

/** All follows each snapshot, so that one part agrees with the other; only long tables are written once a second. */
function render(all = false) {
  const { snapshot } = model;
  if (!snapshot || document.hidden) return;
  drawTabs(snapshot.pools);
  const pool = snapshot.pools.find(({ name }) => name === view.pool);
  drawSeats(pool);
  drawReadout(pool);
  drawFigures(snapshot);
  const part = scoped(snapshot);
  for (const plot of plots) plot.draw(part);
  const states = [...snapshot.workers, ...model.lost.values()].map((worker) => `${worker.number}${worker.state}`).join();
  const rows = Math.max(snapshot.workers.length, snapshot.jobs?.live.length ?? 0);
  if (!all && states === members && rows > LONG && now() - figuresAt < 950) return;
  members = states;
  figuresAt = now();
  drawTables(snapshot);
  document.title = `${perSecond(answeredOf(snapshot))}/s · ${many(snapshot.workers.length, "worker")} · Giostra`;
}
