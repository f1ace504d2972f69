/* The view of single cycles: the median and the worst one of both sides beside each other. */
(function (rca) {
  "use strict";

  const ROWS_OF_TABLE = 50;

  function draw(host, rank, page) {
    if (!rank.timelines.length) {
      rca.fillHost(host, rca.el("p", {}, rank.timelines_note || "There are no events to draw a cycle from."));
      return null;
    }
    const has = (which) => rank.timelines.some((t) => t.which === which);
    const state = { which: has("median") ? "median" : "worst", same: true };
    const panels = rca.el("div", { id: "timeline-panels", class: "panels" });
    const options = [
      ["median", "median"],
      ["worst", "worst"],
      ["all", "all"],
    ].filter(([which]) => which === "all" || has(which));
    const used = new Set(rank.timelines.flatMap((t) => t.events.kind));
    const legend = rca.el("div", { id: "timeline-legend" });
    let shown = [];

    rca.fillHost(
      host,
      rca.el(
        "div",
        { class: "controls" },
        rca.choice(
          "Cycle",
          options,
          state.which,
          (which) => {
            state.which = which;
            build();
          },
          "timeline-which",
        ),
        rca.pressed(
          "Same scale",
          true,
          (on) => {
            state.same = on;
            build();
          },
          { id: "timeline-same" },
        ),
        rca.el(
          "span",
          { role: "group", class: "choice", "aria-label": "Zoom" },
          rca.button("−", () => zoom(2), { "aria-label": "Zoom out" }),
          rca.button("+", () => zoom(0.5), { "aria-label": "Zoom in" }),
          rca.button("Show all", () => shown.forEach(({ link }) => link.show(...link.full)), { id: "timeline-reset" }),
        ),
        rca.el("span", { class: "hint" }, "Drag to pan; Ctrl and wheel, or wheel once chosen, to zoom."),
      ),
      legend,
      panels,
    );
    build();

    function build() {
      const own = rank.timelines.filter((t) => state.which === "all" || t.which === state.which);
      const longest = Math.max(...own.map((t) => t.dur));
      const common = state.same ? linked(longest) : null;
      shown = own.map((t) => {
        const link = common || linked(t.dur);
        const view = rca.timeline(t, page, link, label(t));
        link.draws.push(() => view.draw());
        return { link, view };
      });
      panels.replaceChildren(...own.map((t, n) => panel(t, shown[n].view, page)));
      redraw();
    }

    function zoom(factor) {
      for (const link of new Set(shown.map((one) => one.link))) {
        const [from, to] = link.window;
        const [low, high] = link.full;
        const span = rca.clamp((to - from) * factor, 0, high - low);
        const start = rca.clamp((from + to - span) / 2, low, high - span);
        link.show(start, start + span);
      }
    }

    function redraw() {
      legend.replaceChildren(rca.kindLegend(page.kinds.filter((_, n) => used.has(n))));
      shown.forEach(({ view }) => view.draw(view.node.clientWidth));
    }

    return { resize: redraw, redraw, destroy: () => {} };
  }

  /** A window in µs that drawings share. */
  function linked(dur) {
    const link = { full: [0, dur], window: [0, dur], draws: [] };
    link.show = (from, to) => {
      link.window = [from, to];
      link.draws.forEach((redraw) => redraw());
    };
    return link;
  }

  const name = (t) => `${t.side}, ${t.which} cycle ${t.cycle}`;

  function label(t) {
    const lanes = (kind) => t.lanes.filter((lane) => lane.kind === kind).length;
    return (
      `Timeline of the ${t.which} cycle of the ${t.side} side (cycle ${t.cycle}, ${t.phase}, ${rca.time(t.dur)}): ` +
      `${rca.plural(t.events.start.length, "event")} on ${rca.plural(lanes("host"), "host thread")} and ` +
      `${rca.plural(lanes("gpu"), "GPU stream")}. The table below has the longest.`
    );
  }

  function panel(t, view, page) {
    const place = t.link && [`In the file: ${rca.placeText(t.link)}, `, rca.el("code", {}, t.link.file), rca.timelineLink(t.link)];
    return rca.el(
      "section",
      { class: `timeline ${t.side}`, "data-side": t.side, "data-which": t.which },
      rca.el("h4", {}, rca.swatch(t.side, 0), ` ${name(t)} (${t.phase}): ${rca.time(t.dur)}`),
      view.node,
      t.left_out ? rca.el("p", { class: "hint" }, `${rca.plural(t.left_out, "event")} left out: shorter, deeper or on idler lanes.`) : null,
      place ? rca.el("p", { class: "place" }, ...place) : null,
      rca.details(`The ${ROWS_OF_TABLE} longest events`, () => table(t, page)),
    );
  }

  function table(t, page) {
    const { events } = t;
    const order = [...events.dur.keys()].sort((a, b) => events.dur[b] - events.dur[a]).slice(0, ROWS_OF_TABLE);
    return rca.table(
      `Longest events of ${name(t)}`,
      ["name", "kind", "where", "start, µs", "duration, µs"],
      order.map((n) => [
        rca.el("code", {}, page.names[events.name[n]]),
        page.kinds[events.kind[n]],
        t.lanes[events.lane[n]].name,
        rca.number(events.start[n], 5),
        rca.number(events.dur[n], 5),
      ]),
      [3, 4],
    );
  }

  rca.views.push({ host: "timelines", draw });
})((window.rcaPage = window.rcaPage || {}));
