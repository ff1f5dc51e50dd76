/* Durable jobs, and the store that keeps them */

const PRIORITIES = ["high", "normal", "low"];
const endedOf = (job) => job.succeeded + job.failed;
const progressOf = (job) => endedOf(job) / Math.max(1, job.requests);
const numberOf = ({ id }) => `${id.home.toString(16).padStart(8, "0")}-${id.number}`;
const warn = (td, value) => { put(td, "class", value ? "num warns" : "num"); say(td, count(value)); };

const jobs = new Table($("#jobs"), [
  { label: "Job", width: 140, class: "mono", number: false, value: (j) => j.id.number, text: numberOf },
  { label: "Name", width: 150, class: "peer", value: (j) => j.name, text: (j) => j.name },
  { label: "Pool", width: 100, class: "peer", value: (j) => j.pool, text: (j) => j.pool },
  { label: "Priority", width: 84, value: (j) => String(PRIORITIES.indexOf(j.priority.toLowerCase())), text: (j) => j.priority.toLowerCase() },
  { label: "State", title: "Open: its submission is not complete", width: 84, value: (j) => (j.closed ? "running" : "open"), text: (j) => (j.closed ? "running" : "open") },
  { label: "Progress", title: "Results and errors that are safe, of its requests so far", width: 230, number: true, value: progressOf, cell(td, j) {
    if (!td.firstChild) { td.figure = make("span", {}, td); td.bar = make("span", { class: "bar busy" }, td); }
    // Not rounded up: all is said only of all.
    say(td.figure, `${count(endedOf(j))} / ${count(j.requests)} · ${Math.floor(progressOf(j) * 100)} %`);
    put(td.bar, "style", `background-size:${(clamp(progressOf(j), 0, 1) * 100).toFixed(1)}% 100%`);
  } },
  { label: "Rate", title: "Results and errors a second, lately", width: 96, number: true, value: (j) => j.rate, text: (j) => `${perSecond(j.rate)} /s` },
  { label: "Time left", title: "What the rest takes at this pace", width: 96, number: true, small: true, value: (j) => j.left_ms ?? Infinity, text: (j) => (j.left_ms === null ? "–" : ms(j.left_ms)) },
  { label: "Failed", title: "Requests whose error is their result", width: 84, number: true, value: (j) => j.failed, cell: (td, j) => warn(td, j.failed) },
  { label: "Retrying", title: "Requests that failed and wait to be computed again", width: 84, number: true, value: (j) => j.retrying, cell: (td, j) => warn(td, j.retrying) },
], (job) => job.id.number);

function drawJobs(told) {
  $("#jobs").hidden = !told;
  if (!told) return;
  const { live, left_out, open, running, totals, store } = told;
  const states = [[running, "running"], [open, "open"]].filter(([many]) => many).map(([many, state]) => `${count(many)} ${state}`);
  say($("#jobs-title"), `Jobs · ${states.join(", ") || "none"}${left_out ? `, the first ${count(live.length)} shown` : ""}`);
  const { submitted, restored, finished, cancelled, deleted } = totals;
  const events = Object.entries({ submitted, restored, finished, cancelled, deleted }).filter(([what, many]) => many || what === "submitted");
  const requests = [[totals.saved, "requests saved"], [totals.succeeded, "results"], [totals.failed, "errors"], [totals.retried, "retries"]].filter(([many]) => many);
  say($("#jobs-totals"), `Since the start: ${[...events.map(([what, many]) => `${count(many)} ${what}`), ...requests.map(([many, what]) => `${count(many)} ${what}`)].join(", ")}.`);
  drawStore(store);
  jobs.scroller.hidden = !live.length;
  $("#jobs .empty").hidden = live.length > 0;
  if (live.length) jobs.draw(live);
}

function drawStore({ failed, full, bytes, commits, commits_us, longest_us }) {
  const [state, shape] = failed ? ["lost", "lost"] : full ? ["suspect", "suspect"] : ["", "busy"];
  const took = commits ? `, ${us(commits_us / commits)} on average${longest_us ? `, ${us(longest_us)} at most in the last minutes` : ""}` : "";
  const trouble = failed ? `The store is out of order until the broker is restarted: ${plain(failed)}. ` : full ? `The store has no room for new requests: ${plain(full)}. ` : "";
  say($("#store span"), `${trouble}Store: ${size(bytes)}, ${many(commits, "sync")}${took}.`);
  put($("#store"), "class", state || "hint");
  put($("#store use"), "href", `#s-${shape}`);
  const was = drawStore.trouble;
  drawStore.trouble = trouble;
  // What was so when the page was opened is read with it.
  if (was !== undefined && was !== trouble) $("#said").textContent = trouble || "The store has room again.";
}

/** Bytes in words: `24.3 MiB`. */
function size(bytes) {
  const at = clamp(Math.floor(Math.log2(Math.max(1, bytes)) / 10), 0, 4);
  return `${at ? digits(bytes / 1024 ** at) : count(bytes)} ${["bytes", "KiB", "MiB", "GiB", "TiB"][at]}`;
}
