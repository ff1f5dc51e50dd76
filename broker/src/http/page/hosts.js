/* Workers: which of them are listed, or their hosts */

const found = { text: "", state: "", host: null, hosts: false };
const TROUBLED = ["lost", "suspect", "stuck", "unable"];
const inTrouble = (host) => host.lost + host.suspect + host.stuck + host.unable;
const hostName = (name) => name || "(unknown)";
const tools = $("#workers .tools");

const hosts = new Table($("#hosts"), [
  { label: "Host", width: 180, value: (h) => h.name, cell(td, h) {
    if (!td.firstChild) {
      const button = make("button", { type: "button", class: "peer", title: "Its workers" }, td);
      button.addEventListener("click", () => narrow({ host: td.parentNode.key, hosts: false }));
    }
    say(td.firstChild, hostName(h.name));
    put(td.parentNode, "class", h.lost ? "lost" : h.suspect ? "suspect" : h.stuck || h.unable ? "stuck" : h.busy ? "busy" : "idle");
  } },
  { label: "Trouble", title: "Its workers that are lost, suspect, stuck or unable", width: 150, number: true, value: inTrouble, cell(td, h) {
    const told = TROUBLED.filter((state) => h[state]).map((state) => `${count(h[state])} ${state}`).join(", ");
    put(td, "class", told ? "num warns" : "num");
    say(td, told || "–");
  } },
  { label: "Workers", width: 84, number: true, value: (h) => h.workers, text: (h) => count(h.workers) },
  { label: "Threads", width: 84, number: true, value: (h) => h.threads, text: (h) => count(h.threads) },
  { label: "Busy", width: 70, number: true, value: (h) => h.busy, text: (h) => count(h.busy) },
  { label: "Idle", width: 70, number: true, value: (h) => h.idle, text: (h) => count(h.idle) },
  { label: "Leaving", width: 80, number: true, value: (h) => h.leaving, text: (h) => count(h.leaving) },
  { label: "In flight / window", title: "Requests its workers hold, of their windows", width: 150, number: true, value: (h) => h.in_flight / Math.max(1, h.window), cell: drawShare },
  { label: "Rate", title: "Answered a second", width: 96, number: true, value: (h) => h.rate, text: (h) => `${perSecond(h.rate)} /s` },
  { label: "Answered", title: "Since the broker's start, also by those that are gone", width: 120, number: true, value: (h) => h.answered, text: (h) => count(h.answered) },
], (host) => host.name, { down: true });
hosts.sort = hosts.columns[1];

/** Lists what this says, and what was said before of the rest. */
function narrow(to) {
  Object.assign(found, to);
  workers.scroller.scrollTop = 0;
  render(true);
}

$("input", tools).addEventListener("input", ({ target }) => narrow({ text: target.value, hosts: false }));
$("select", tools).addEventListener("change", ({ target }) => narrow({ state: target.value, hosts: false }));
$(".host", tools).addEventListener("click", () => narrow({ host: null }));
for (const button of tools.querySelectorAll("[aria-pressed]")) button.addEventListener("click", () => narrow({ hosts: button.value === "hosts", host: null }));

/** Those that are looked for. */
function wanted(all) {
  const words = found.text.toLowerCase().split(/\s+/).filter(Boolean), { state, host } = found;
  if (!words.length && !state && host === null) return all;
  return all.filter((worker) => (!state || worker.state === state || (state === "trouble" && TROUBLED.includes(worker.state)))
    && (host === null || worker.host === host)
    && words.every((word) => `${worker.name} w${worker.number} ${worker.host} ${worker.pool} ${worker.address}`.toLowerCase().includes(word)));
}

function drawWorkers(snapshot) {
  const gone = [...model.lost.values()], all = [...snapshot.workers, ...gone], listed = wanted(all);
  if (found.hosts && !snapshot.hosts.length) found.hosts = false;
  say($("#workers-title"), `Workers · ${snapshot.workers.length ? count(snapshot.workers.length) : "none"}${gone.length ? `, ${count(gone.length)} lost` : ""}`);
  tools.hidden = !all.length;
  for (const button of tools.querySelectorAll("[aria-pressed]")) put(button, "aria-pressed", String((button.value === "hosts") === found.hosts));
  const chip = $(".host", tools);
  chip.hidden = found.host === null;
  if (found.host !== null) say($("span", chip), hostName(found.host));
  say($("output", tools), found.hosts ? many(snapshot.hosts.length, "host") : listed.length < all.length ? `${count(listed.length)} of ${count(all.length)}` : "");
  $("#hosts").hidden = !found.hosts;
  workers.scroller.hidden = found.hosts || !listed.length;
  $("#workers > .empty").hidden = found.hosts || listed.length > 0 || !all.length;
  if (found.hosts) hosts.draw(snapshot.hosts);
  else workers.draw(listed);
}
