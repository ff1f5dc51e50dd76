/* Events: a line each. What does not fit is seen on hover, or after a click. */

const KINDS = { joined: ["joined", "busy"], unable: ["unable", "unable"], able: ["joined", "busy"], left: ["leaving", "leaving"], leaving: ["leaving", "leaving"], dropped: ["lost", "lost"], redispatch: ["moved", ""],
  poison: ["suspect", "lost"], expire: ["suspect", "suspect"],
  refuse: ["suspect", "suspect"], discard: ["discarded", ""], rejected: ["suspect", "suspect"], closing: ["leaving", "leaving"], "client-joined": ["client", ""], "client-left": ["client", ""],
  job: ["joined", "busy"], restored: ["joined", "busy"], resumed: ["joined", "busy"], known: ["idle", ""], finished: ["busy", "busy"], "cancelled-job": ["discarded", ""], deleted: ["discarded", ""],
  "store-full": ["suspect", "suspect"], "store-failed": ["lost", "lost"] };

$("#events ol").addEventListener("click", ({ target }) => target.closest("li")?.classList.toggle("open"));

function drawEvents(fresh, whole) {
  const list = $("#events ol"), scroller = list.parentNode, top = scroller.scrollTop, height = list.offsetHeight * (top > 0);
  if (whole) list.replaceChildren();
  for (const event of crowded(fresh)) {
    if (event.kind === "redispatch" && sum(list.firstChild, event)) continue;
    const [shape, state] = KINDS[event.kind] ?? ["idle", ""], item = make("li", { class: state, "data-kind": event.kind });
    if (event.kind === "redispatch") item.moved = { at_ms: event.at_ms, count: event.count ?? 1, takers: new Set([event.worker]) };
    glyph(shape, item);
    make("time", { text: model.time(event.at_ms) }, item);
    const text = event.whole ?? told(event);
    make("p", { class: "peer", text, title: text }, item);
    list.prepend(item);
  }
  while (list.children.length > 100) list.lastChild.remove();
  list.nextElementSibling.hidden = list.children.length > 0;
  if (top > 0) scroller.scrollTop = top + list.offsetHeight - height;    // Who reads further down is not pushed along.
}

const CROWD = 8;          // So many that come or go at one time are told each, more are one line.

/** Events, those of many workers that came or went at one time as one. */
function crowded(events) {
  const runs = [];
  for (const event of events) {
    const run = runs.at(-1);
    if (run && ["joined", "dropped", "left"].includes(event.kind) && run[0].kind === event.kind && event.at_ms - run.at(-1).at_ms < 1000) run.push(event);
    else runs.push([event]);
  }
  return runs.flatMap((run) => {
    if (run.length <= CROWD) return run;
    const on = new Map();
    for (const { worker } of run) on.set(model.worker(worker)?.host, (on.get(model.worker(worker)?.host) ?? 0) + 1);
    const hosts = [...on].filter(([host]) => host).map(([host, workers]) => `${host} (${count(workers)})`);
    return [{ ...run.at(-1), whole: [`${run[0].kind} ${count(run.length)} workers`, ...hosts].join(", ") }];
  });
}

/** An event in words: `dropped worker-2 w2, connection broke, 12 requests`. Of the log's `key=value`, the numbers of requests come last. */
function told({ kind, text, worker, count: requests }) {
  const [line, reason = ""] = text.split(/ reason=(.*)/s), words = line.split(" "), named = worker === null ? 1 : 3;
  const counted = ["dropped", "unable", "redispatch", "discard", "expire", "rejected"].includes(kind) && requests !== null;
  const said = [words.slice(0, named).join(" ")];
  for (const word of words.slice(named)) {
    const [, key, value] = /^([a-z-]+)=(.*)$/.exec(word) ?? [];
    if (word === "?") continue;
    if (key === undefined) said.push(`${said.pop()} ${word}`);
    else if (!counted) said.push(`${key.replaceAll("-", " ")} ${value}`);
  }
  return [...said, ...(reason ? [reason] : []), ...(counted ? [many(requests, "request")] : [])].join(", ");
}

/** Whether a re-dispatch went into the line of those just before it: a lost worker's requests may go out in a hundred handfuls. */
function sum(item, { at_ms, count: more, worker }) {
  const moved = item?.moved;
  if (!moved || at_ms - moved.at_ms > 1000) return false;
  moved.count += more ?? 1;
  moved.takers.add(worker);
  item.lastChild.textContent = item.lastChild.title = `redispatch of ${many(moved.count, "request")} to ${many(moved.takers.size, "worker")}`;
  return true;
}

/** Tells screen readers what matters, and no more: the lost, at once for all of a moment. */
function announce(fresh) {
  const lost = fresh.filter((event) => event.kind === "dropped");
  if (lost.length) $("#said").textContent = lost.length > 2 ? `${count(lost.length)} workers lost` : lost.map(told).join(". ");
}
