/* One cycle as a timeline on a canvas: lanes of host threads and GPU streams, counters below. Which cycles are shown beside
   each other is decided in timelines.js. */
(function (rca) {
  "use strict";

  const ROW = 16;
  const TITLE = 17; // height of a lane's name
  const COUNTER = 34;
  const AXIS = 20;
  const LETTER = 6.7; // px per character of the font used in boxes, about

  // Told apart by fill and outline as well as by colour.
  const PATTERNS = { memcpy: "hatch", memset: "hatch", sync: "cross", runq: "cross", io: "dots", overhead: "dots" };
  const DASHED = new Set(["annotation", "gpu_annotation", "window"]);

  /** Draws one box of a kind; also used for the legend. */
  function drawBox(pen, kind, fills, x, y, width, height) {
    const colour = rca.colour("kind-" + kind);
    if (!DASHED.has(kind)) {
      pen.globalAlpha = kind === "kernel" ? 0.45 : 0.3;
      pen.fillStyle = colour;
      pen.fillRect(x, y, width, height);
      pen.globalAlpha = 0.7;
      const pattern = PATTERNS[kind];
      if (pattern && width > 2) {
        if (!fills.has(kind)) fills.set(kind, rca.fill(pen, colour, pattern));
        pen.fillStyle = fills.get(kind);
        pen.fillRect(x, y, width, height);
      }
      pen.globalAlpha = 1;
    }
    if (width < 3) return;
    pen.strokeStyle = colour;
    pen.setLineDash(DASHED.has(kind) ? [3, 2] : []);
    pen.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
    pen.setLineDash([]);
  }

  rca.kindLegend = function (kinds) {
    return rca.el(
      "div",
      { class: "legend", "aria-label": "Kinds of events", role: "group" },
      ...kinds.map((kind) => {
        const canvas = rca.el("canvas", { "aria-hidden": "true" });
        drawBox(rca.sized(canvas, 22, 13), kind, new Map(), 0, 0, 22, 13);
        return rca.el("span", { class: "key-entry" }, canvas, ` ${kind}`);
      }),
    );
  };

  /**
   * Makes the drawing of timeline `t`. `link` is what linked drawings share: {window: [from, to] in µs, full: [from, to],
   * show(from, to)}. Returns {node, draw(width)}.
   */
  rca.timeline = function (t, page, link, label) {
    const { events } = t;
    const tops = [];
    let height = 2;
    for (const lane of t.lanes) {
      tops.push(height + TITLE);
      height += TITLE + lane.depth * ROW + 4;
    }
    const counterTop = height;
    height += t.counters.length * (COUNTER + TITLE) + 4;

    const keys =
      "Left and right arrows pan, plus and minus zoom, 0 shows the whole cycle, n and p go to the next and the " +
      "previous event.";
    const axis = rca.el("canvas", { class: "timeline-axis", "aria-hidden": "true" });
    const canvas = rca.el("canvas", { role: "img", "aria-label": label });
    const text = rca.live(null);
    const node = rca.el(
      "div",
      {},
      rca.el(
        "div",
        {
          class: "timeline-canvas",
          tabindex: 0,
          role: "application",
          "aria-label": `${label} ${keys}`,
          on: { keydown: key },
        },
        axis,
        canvas,
      ),
      text,
    );
    const area = node.firstChild;
    let width = 300;
    let picked = null;

    const x = (us) => ((us - link.window[0]) / (link.window[1] - link.window[0])) * width;
    const usAt = (px) => link.window[0] + (px / width) * (link.window[1] - link.window[0]);

    function draw(to) {
      width = to || width;
      drawAxis();
      const pen = rca.sized(canvas, width, height);
      pen.font = "11px ui-monospace, monospace";
      pen.textBaseline = "middle";
      t.lanes.forEach((lane, n) => title(pen, lane.name, tops[n] - TITLE));
      // Past its end a shorter cycle has nothing: that is not the same as an idle GPU.
      if (x(t.dur) < width) {
        pen.fillStyle = rca.colour("box");
        pen.fillRect(Math.max(x(t.dur), 0), 0, width, height);
        line(pen, x(t.dur));
      }
      drawEvents(pen);
      t.counters.forEach((counter, n) => drawCounter(pen, counter, counterTop + n * (COUNTER + TITLE)));
    }

    function drawAxis() {
      const pen = rca.sized(axis, width, AXIS);
      const [from, to] = link.window;
      const ticks = rca.ticks(from, to, width / 90);
      const unit = rca.unitOf(Math.max(Math.abs(from), Math.abs(to)));
      pen.fillStyle = rca.colour("paper");
      pen.fillRect(0, 0, width, AXIS);
      pen.font = rca.FONT;
      pen.fillStyle = rca.colour("dim");
      pen.strokeStyle = rca.colour("line");
      for (const tick of ticks) {
        line(pen, x(tick));
        const label = `${rca.number(tick / unit.us, 6)} ${unit.text}`;
        if (x(tick) + 4 + label.length * LETTER < width) pen.fillText(label, x(tick) + 4, 14);
      }
    }

    function line(pen, at) {
      pen.strokeStyle = rca.colour("line");
      pen.lineWidth = 1;
      pen.beginPath();
      pen.moveTo(Math.round(at) + 0.5, 0);
      pen.lineTo(Math.round(at) + 0.5, height);
      pen.stroke();
    }

    function title(pen, name, top) {
      pen.fillStyle = rca.colour("dim");
      pen.fillText(rca.elided(name, Math.floor(width / LETTER)), 1, top + TITLE / 2 + 1);
    }

    function drawEvents(pen) {
      const fills = new Map();
      const ends = new Map(); // per row, where the last run of events too short to be seen ends
      for (let n = 0; n < events.start.length; n += 1) {
        const left = Math.max(x(events.start[n]), -2);
        const right = Math.min(x(events.start[n] + events.dur[n]), width + 2);
        if (right < 0 || left > width) continue;
        const top = tops[events.lane[n]] + events.depth[n] * ROW;
        if (right - left < 1) {
          // A pixel is painted once, however many events fall into it.
          if (ends.get(top) >= Math.floor(left)) continue;
          ends.set(top, Math.floor(left));
          pen.fillStyle = rca.colour("kind-" + page.kinds[events.kind[n]]);
          pen.fillRect(Math.floor(left), top, 1, ROW - 2);
          continue;
        }
        drawBox(pen, page.kinds[events.kind[n]], fills, left, top, right - left, ROW - 2);
        const letters = Math.floor((right - Math.max(left, 0) - 6) / LETTER) - 1;
        const name = rca.shortName(page, events.name[n]);
        if (letters >= Math.min(name.length, 8)) {
          const text = rca.elided(name, letters);
          if (PATTERNS[page.kinds[events.kind[n]]]) {
            pen.fillStyle = rca.colour("paper");
            pen.fillRect(Math.max(left, 0) + 2, top + 2, text.length * LETTER + 2, ROW - 6);
          }
          pen.fillStyle = rca.colour("ink");
          pen.fillText(text, Math.max(left, 0) + 3, top + ROW / 2 - 0.5);
        }
      }
      if (picked === null) return;
      pen.strokeStyle = rca.colour("ink");
      pen.lineWidth = 2;
      const left = x(events.start[picked]);
      pen.strokeRect(
        left,
        tops[events.lane[picked]] + events.depth[picked] * ROW - 1,
        Math.max(x(events.start[picked] + events.dur[picked]) - left, 2),
        ROW,
      );
      pen.lineWidth = 1;
    }

    function drawCounter(pen, counter, top) {
      const low = Math.min(...counter.v);
      const high = Math.max(...counter.v);
      const values = !counter.v.length
        ? "not measured"
        : low === high
          ? rca.number(low)
          : `${rca.number(low)} to ${rca.number(high)}`;
      title(pen, `${counter.metric}, ${counter.device}: ${values} ${counter.unit || ""}`, top);
      const level = (value) => top + TITLE + 2 + (high === low ? 0.5 : (high - value) / (high - low)) * (COUNTER - 6);
      pen.strokeStyle = rca.colour(t.side);
      pen.lineWidth = 1.5;
      pen.beginPath();
      counter.t.forEach((us, n) => pen[n ? "lineTo" : "moveTo"](x(us), level(counter.v[n])));
      pen.stroke();
      pen.fillStyle = pen.strokeStyle;
      if (counter.t.length < 60) counter.t.forEach((us, n) => pen.fillRect(x(us) - 1.5, level(counter.v[n]) - 1.5, 3, 3));
      pen.lineWidth = 1;
    }

    // ---- what the pointer and the keys do ----------------------------------------------------------------------

    const lines = (n) => [
      page.names[events.name[n]],
      `${rca.time(events.dur[n])}, from ${rca.time(events.start[n])}`,
      `${page.kinds[events.kind[n]]}, ${t.lanes[events.lane[n]].name}`,
    ];

    function hit(event) {
      const box = canvas.getBoundingClientRect();
      const [px, py] = [event.clientX - box.left, event.clientY - box.top];
      let best = null;
      for (let n = 0; n < events.start.length; n += 1) {
        const top = tops[events.lane[n]] + events.depth[n] * ROW;
        if (py < top || py >= top + ROW) continue;
        // A pixel of grace for what is too short to be met; the later start is the one on top.
        if (px >= x(events.start[n]) - 1 && px <= x(events.start[n] + events.dur[n]) + 1) best = n;
      }
      return best;
    }

    function show(from, to) {
      const [low, high] = link.full;
      const span = rca.clamp(to - from, (high - low) / 1e5, high - low);
      const start = rca.clamp(from, low, high - span);
      link.show(start, start + span);
    }

    function zoom(factor, at) {
      const [from, to] = link.window;
      show(at - (at - from) * factor, at + (to - at) * factor);
    }

    const pan = (us) => show(link.window[0] + us, link.window[1] + us);

    function pick(n) {
      picked = n;
      text.textContent = n === null ? "" : lines(n).join(" · ");
      draw();
    }

    const pointers = new Map();
    let moved = 0;
    canvas.addEventListener("pointerdown", (event) => {
      pointers.set(event.pointerId, event.clientX);
      canvas.setPointerCapture(event.pointerId);
      moved = 0;
      rca.hideTip();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!pointers.has(event.pointerId)) {
        const n = hit(event);
        if (n === null) rca.hideTip();
        else rca.showTip(event.clientX, event.clientY, lines(n));
        return;
      }
      const by = event.clientX - pointers.get(event.pointerId);
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      pointers.set(event.pointerId, event.clientX);
      moved += Math.abs(by);
      if (other === undefined) pan(usAt(0) - usAt(by));
      else {
        const before = Math.abs(event.clientX - by - other);
        zoom(before / Math.max(Math.abs(event.clientX - other), 8), usAt(other - canvas.getBoundingClientRect().left));
      }
    });
    for (const type of ["pointerup", "pointercancel"])
      canvas.addEventListener(type, (event) => {
        if (type === "pointerup" && moved < 4) pick(hit(event));
        pointers.delete(event.pointerId);
      });
    canvas.addEventListener("pointerleave", rca.hideTip);
    canvas.addEventListener("dblclick", () => show(...link.full));
    canvas.addEventListener(
      "wheel",
      (event) => {
        // A plain wheel scrolls the page until the timeline has been chosen.
        if (!event.ctrlKey && document.activeElement !== area) return;
        event.preventDefault();
        zoom(
          Math.exp(rca.clamp(event.deltaY, -100, 100) * 0.003),
          usAt(event.clientX - canvas.getBoundingClientRect().left),
        );
      },
      { passive: false },
    );

    function key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const span = link.window[1] - link.window[0];
      const middle = picked === null ? link.window[0] + span / 2 : events.start[picked] + events.dur[picked] / 2;
      if (event.key === "ArrowLeft") pan(-span / 5);
      else if (event.key === "ArrowRight") pan(span / 5);
      else if (event.key === "+" || event.key === "=") zoom(0.5, middle);
      else if (event.key === "-") zoom(2, middle);
      else if (event.key === "0" || event.key === "Escape") show(...link.full);
      else if (event.key === "n" || event.key === "p") step(event.key === "n" ? 1 : -1);
      else return;
      event.preventDefault();
    }

    /** To the next or previous event in the order of lanes and starts; brings it into sight. */
    function step(by) {
      if (!events.start.length) return;
      const n =
        picked === null ? (by > 0 ? 0 : events.start.length - 1) : rca.clamp(picked + by, 0, events.start.length - 1);
      const [from, to] = link.window;
      picked = n;
      if (events.start[n] > to || events.start[n] + events.dur[n] < from) pan(events.start[n] - (from + to) / 2);
      const top = tops[events.lane[n]] + events.depth[n] * ROW;
      if (top < area.scrollTop || top + 2 * ROW + AXIS > area.scrollTop + area.clientHeight) area.scrollTop = top - 40;
      pick(n);
    }

    return { node, draw };
  };
})((window.rcaPage = window.rcaPage || {}));
