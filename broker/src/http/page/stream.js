/* The stream */

const STALE_MS = 2500, SILENT_MS = 8000, UNSEEN_MS = 60e3;

const stream = {
  source: null, heardAt: null, heardTime: null, openedAt: 0, wait: 500, timer: 0, stale: null, anew: false, sleepy: 0, asleep: false,

  open() {
    clearTimeout(this.timer);
    this.source?.close();
    this.openedAt = now();
    this.anew = true;
    this.source = new EventSource("events");
    this.source.onmessage = ({ data }) => this.hear(data);
    this.source.onerror = () => this.retry();
  },

  /** Nobody looks at a page in the background: after a minute it leaves its place to others. */
  mind(hidden) {
    clearTimeout(this.sleepy);
    if (hidden) {
      this.sleepy = setTimeout(() => {
        this.asleep = true;
        clearTimeout(this.timer);
        this.source.close();
      }, UNSEEN_MS);
    } else if (this.asleep) {
      this.asleep = false;
      this.open();
    }
  },

  /** The browser's own retrying gives up at an HTTP error, so ours replaces it: after 0.5, 1, 2, 4, 4 .. seconds. */
  retry() {
    this.source.close();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), this.wait);
    this.wait = Math.min(4000, this.wait * 2);
    this.show(true);
  },

  hear(data) {
    let snapshot;
    try { snapshot = JSON.parse(data); } catch { return; }      // What can't be read is as if it had not come.
    const restarted = model.isAnothers(snapshot, this.anew), whole = !model.snapshot || restarted;
    this.anew = false;
    this.heardAt = now();
    this.heardTime = Date.now();
    this.wait = 500;
    const fresh = model.take(snapshot, restarted);
    if (fresh.length || whole) drawEvents(fresh, whole);
    if (!whole) announce(fresh);
    this.show(false);
    render(whole);
  },

  watch() {
    if (this.asleep) return;
    const quiet = now() - (this.heardAt ?? 0);
    if (quiet > STALE_MS) this.show(true);
    if (quiet > SILENT_MS && now() - this.openedAt > SILENT_MS && this.source.readyState !== EventSource.CLOSED) this.retry();
  },

  show(stale) {
    const link = $("#link span");
    if (stale) {
      const seconds = Math.round((now() - this.heardAt) / 1000);
      say(link, this.heardAt === null ? "No connection to the broker. Trying again." : `No connection for ${seconds} s. Figures of ${clock.format(this.heardTime)}. Trying again.`);
    } else say(link, "Live");
    if (stale === this.stale) return;
    if (this.stale !== null) $("#said").textContent = stale ? "The connection to the broker is lost. The figures are old." : "Connected again.";
    this.stale = stale;
    document.body.classList.toggle("stale", stale);
    put($("#link use"), "href", stale ? "#s-lost" : "#s-busy");
    ring.hand.pause(stale);
    if (stale) document.title = "⚠ no connection · Giostra";
    else figuresAt = -Infinity;
  },
};

document.addEventListener("visibilitychange", () => {
  stream.mind(document.hidden);
  render(true);
});
motionless.addEventListener("change", () => { ring.hand.stop(); render(true); });
setInterval(() => stream.watch(), 1000);
stream.open();
stream.mind(document.hidden);
