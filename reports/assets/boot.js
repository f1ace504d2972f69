/* Starts the views: each is drawn when it comes near the screen or when the browser has time, and again for another rank.

   Order of the files: vendor/uPlot.iife.min, base, cycle_data, cycle_chart, cycles, timeline, timelines, functions, flame, boot.

   Hosts: #cycles-plot #timelines #function-table #flame (each gets data-drawn when it is drawn); #data holds the JSON,
   select#rank the ranks; a.perfetto links stay hidden on file://. What the views put into them:
   cycles     #cycles-mode [data-value=time|apart|number] #cycles-log #cycles-reset #cycles-legend [data-phase]
              #cycles-chart #cycles-cursor #cycles-selection #cycles-counter-choice #cycles-counters figure.counter
              #cycles-table
   timelines  #timeline-which [data-value=median|worst|all] #timeline-same #timeline-reset #timeline-legend #timeline-panels
              section.timeline [data-side] [data-which], in it .timeline-canvas, .live, .place, details
   functions  #function-search #function-device #function-kind #function-changed #function-count #function-rows
              th[data-key] button, button.name, tr.detail, code.full-name
   flame      #flame-search #flame-width [data-value=larger|normal|abnormal] #flame-found #flame-path #flame-graph
              #flame-cursor
   all        .tip (the tooltip) */
(function (rca) {
  "use strict";

  const root = document.documentElement;
  const source = document.getElementById("data");
  if (!source) return;
  root.classList.remove("no-js");
  const page = JSON.parse(source.textContent);
  const drawn = new Map(); // by id of the host: what its view can do
  let rank = page.ranks[0];

  const views = rca.views.map((view) => ({ ...view, node: document.getElementById(view.host) })).filter(({ node }) => node);

  function draw(view) {
    if (!rank || drawn.has(view.host)) return;
    view.node.removeAttribute("hidden");
    drawn.set(view.host, null); // one that fails is not tried for ever
    drawn.set(view.host, view.draw(view.node, rank, page));
    if (!view.node.childElementCount) view.node.append(rca.el("p", {}, "This rank has nothing to draw here."));
    view.node.dataset.drawn = "";
    view.width = view.node.clientWidth;
  }

  const forget = (view) => {
    drawn.get(view.host)?.destroy();
    drawn.delete(view.host);
    delete view.node.dataset.drawn;
    view.node.replaceChildren();
  };

  const near = new IntersectionObserver(
    (entries) =>
      entries
        .filter((entry) => entry.isIntersecting)
        .forEach((entry) => {
          draw(views.find(({ node }) => node === entry.target));
        }),
    { rootMargin: "300px" },
  );

  /** Draws one view after the other while nothing else is to be done: what lies above a link's target is then in place. */
  function drawWhenIdle() {
    const next = views.find((view) => !drawn.has(view.host));
    if (!next) return;
    const later = window.requestIdleCallback || ((run) => setTimeout(run, 50));
    later(() => {
      try {
        draw(next);
      } finally {
        drawWhenIdle();
      }
    });
  }

  function start() {
    views.forEach(({ node }) => {
      near.unobserve(node);
      near.observe(node);
    });
    drawWhenIdle();
  }

  const resized = new ResizeObserver(() =>
    requestAnimationFrame(() =>
      views.forEach((view) => {
        const width = view.node.clientWidth;
        if (!drawn.get(view.host) || !width || width === view.width) return;
        view.width = width;
        drawn.get(view.host).resize(width);
      }),
    ),
  );
  views.forEach(({ node }) => resized.observe(node));

  const repaint = () => {
    rca.forgetColours();
    for (const view of drawn.values()) view?.redraw();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  matchMedia("print").addEventListener("change", repaint);
  addEventListener("beforeprint", () => views.forEach(draw));

  const choice = document.getElementById("rank");
  if (choice) {
    choice.addEventListener("change", () => {
      rank = page.ranks[choice.selectedIndex];
      rca.hideTip();
      views.forEach(forget);
      start();
    });
  }

  if (rca.isServed)
    document.querySelectorAll("a.perfetto").forEach((link) => {
      link.hidden = false;
    });

  addEventListener("scroll", rca.hideTip, { passive: true });
  start();
})((window.rcaPage = window.rcaPage || {}));
