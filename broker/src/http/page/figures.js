/* Figures */

const TILES = [
  ["Throughput", (s) => [perSecond(answeredOf(s)), "/ s"], () => "answered"],
  ["Latency p50", (s) => latency(s.latency_us.p50), () => "half are faster"],
  ["Latency p99", (s) => latency(s.latency_us.p99), () => "99 % are faster"],
  ["In flight", (s) => [count(s.in_flight), ""], (s) => `room for ${count(s.workers.reduce((sum, worker) => sum + worker.window, 0))}`],
  ["Pending", (s) => [count(s.pending), ""], () => "not yet dispatched"],
  ["Oldest pending", (s) => (s.pending ? milliseconds(oldest(s)) : ["–", ""]), () => "since accepted", (s) => oldest(s) >= 1000],
  ["Workers", (s) => [count(s.workers.length), ""], (s) => states([...s.workers, ...s.lost].map((worker) => worker.number)) || "none registered"],
  ["Clients", (s) => [count(s.clients.length), ""], (s) => `${count(s.clients.reduce((sum, client) => sum + client.unanswered, 0))} unanswered`],
].map(([label, figure, note, warns]) => {
  const tile = make("div", { class: "tile" }, $("#tiles"));
  make("dt", { text: label }, tile);
  const value = make("dd", {}, tile);
  return { tile, figure, note, warns, number: make("span", { text: "–" }, value), unit: make("small", {}, value), below: make("dd", { class: "note", text: " " }, tile) };
});
const answeredOf = (snapshot) => snapshot.history.rate.at(-1) ?? 0;
const latency = (value) => (value > 0 ? microseconds(value) : ["–", ""]);
const oldest = (snapshot) => snapshot.pools.reduce((most, pool) => Math.max(most, pool.oldest_ms), 0);

const TOTALS = ["accepted", "dispatched", "answered", "redispatched", "cancelled", "expired", "poisoned", "discarded", "refused", "rejected"].map((key) => {
  const item = make("div", {}, $("#totals dl"));
  make("dt", {}, item);
  return { key, item, label: item.firstChild, value: make("dd", { text: "–" }, item), warns: ["expired", "poisoned", "refused"].includes(key) };
});

/** What is counted of messages belongs to no pool. */
const OF_NO_POOL = ["discarded", "refused", "rejected"];

function drawFigures(whole) {
  const snapshot = scoped(whole);
  for (const { tile, figure, note, warns, number, unit, below } of TILES) {
    const [value, unitText] = figure(snapshot);
    say(number, value);
    say(unit, unitText && ` ${unitText}`);
    say(below, note(snapshot));
    put(below, "title", note(snapshot));
    put(tile, "class", warns?.(snapshot) ? "tile warns" : "tile");
  }
  for (const { key, item, label, value, warns } of TOTALS) {
    say(label, `${{ redispatched: "re-dispatched" }[key] ?? key}${snapshot.only !== null && OF_NO_POOL.includes(key) ? ", all" : ""}`);
    say(value, count(snapshot.totals[key] ?? 0));
    put(item, "class", warns && snapshot.totals[key] ? "warns" : "");
  }
  const leftOut = Object.entries(snapshot.left_out).filter(([, many]) => many).map(([what, many]) => ` · ${count(many)} ${what} left out`).join("");
  const all = snapshot.only === null ? "" : ` · all pools ${perSecond(answeredOf(whole))} / s`;
  say($("#about"), `${snapshot.version} · ${snapshot.rotation} rotation · up ${ms(snapshot.uptime_ms)}${all}${leftOut}`);
}
