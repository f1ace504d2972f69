/* The view of cycles: duration over time of both sides, counters on the same axis, and a brush that says what it holds. */
(function (rca) {
  "use strict";

  const COUNTERS_AT_FIRST = 3;
  const ROWS_OF_TABLE = 200;
  const WIDE_RANGE = 10; // durations that differ by more may be drawn on a log axis, by three times that they are

  const KEYS =
    "Left and right arrows go from cycle to cycle, up and down to the other side, plus and minus zoom, " +
    "0 or Escape shows everything. Drag to select a time range.";

  function draw(host, rank) {
    const { cycles, phases } = rank;
    const total = cycles.normal.t.length + cycles.abnormal.t.length;
    if (!total) return null; // the page itself says why there is none
    const whole = (side) => cycles[side].dur.filter((_, n) => cycles[side].state[n] !== rca.NOT_COMPLETE);
    const known = rca.SIDES.flatMap(whole); // how long a cycle is that was cut off says little
    const durations = known.length ? known : rca.SIDES.flatMap((side) => cycles[side].dur);
    const positive = durations.filter((us) => us > 0);
    const range = Math.max(...positive) / Math.min(...positive);
    const state = {
      mode: rca.SIDES.some((side) => cycles[side].t.some((t) => t > 0)) ? "time" : "number", // profiles may state no time
      log: range > 3 * WIDE_RANGE,
      shown: new Set(phases.keys()),
      counters: rank.counters.map((_, n) => n).slice(0, COUNTERS_AT_FIRST),
      unit: rca.unitOf(Math.max(...durations)),
      at: null,
    };
    const titles = new Map((rank.parts || []).map(({ part, text }) => [part, text]));
    const chartHost = rca.el("div", {
      id: "cycles-chart",
      class: "chart",
      tabindex: 0,
      role: "application",
      "aria-label": `Cycle durations over time. ${KEYS}`,
      on: { keydown: key, dblclick: () => group.reset(), blur: leave },
    });
    const counterHost = rca.el("div", { id: "cycles-counters", on: { dblclick: () => group.reset() } });
    const cursorText = rca.live("cycles-cursor");
    const brushText = rca.el("div", { id: "cycles-selection", class: "selection", "aria-live": "polite" });
    const resetButton = rca.button("Show all", () => group.reset(), { id: "cycles-reset" });
    const mark = rca.el("div", { class: "cycle-mark", hidden: true });
    let arrangement, group, chart;
    let width = host.clientWidth;

    const controls = rca.el(
      "div",
      { class: "controls" },
      rca.choice(
        "Sides",
        rca.ARRANGEMENTS,
        state.mode,
        (mode) => {
          state.mode = mode;
          build();
        },
        "cycles-mode",
      ),
      range > WIDE_RANGE
        ? rca.pressed(
            "Log scale",
            state.log,
            (on) => {
              state.log = on;
              build(group.window);
            },
            { id: "cycles-log" },
          )
        : null,
      rca.el(
        "span",
        { role: "group", class: "choice", "aria-label": "Zoom" },
        rca.button("−", () => group.zoom(2), { "aria-label": "Zoom out" }),
        rca.button("+", () => group.zoom(0.5), { "aria-label": "Zoom in" }),
        resetButton,
      ),
    );
    rca.fillHost(
      host,
      controls,
      legend(rank, state, () => {
        group.apply();
        chart.redraw(false);
        say();
      }),
      chartHost,
      cursorText,
      brushText,
      chooser(rank, state, () => build(group.window)),
      counterHost,
      rca.details("Cycles as a table", () => table(cycles, phases), { id: "cycles-table" }),
    );
    build();

    function build(kept) {
      if (group) group.charts.forEach((each) => each.destroy());
      leave();
      arrangement = rca.arrangement(cycles, state.mode);
      state.points = rca.points(cycles, arrangement);
      const xs = rca.SIDES.flatMap((side) => [state.points[side].x[0], state.points[side].x.at(-1)]).filter(Number.isFinite);
      const [least, most] = [Math.min(...xs), Math.max(...xs)];
      const margin = (most - least) * 0.015 || 0.5;
      group = rca.chartGroup("cycles", [least - margin, most + margin], say);
      if (kept) group.window = kept;
      const height = rca.clamp(width * 0.35, 200, 300);
      chart = rca.cycleChart(group, chartHost, arrangement, state, width, height, point);
      chart.over.append(mark);
      chart.ctx.canvas.setAttribute("aria-label", summary());
      counterHost.replaceChildren(
        ...state.counters.map((n) => {
          const counter = rank.counters[n];
          const name = `${counter.metric}, ${counter.device}${counter.unit ? `, ${counter.unit}` : ""}`;
          const figure = rca.el("figure", { class: "counter" }, rca.el("figcaption", {}, name));
          const small = rca.counterChart(group, figure, arrangement, counter, width, 96);
          small.ctx.canvas.setAttribute(
            "aria-label",
            `${name}: ${rca.SIDES.map((side) => `${side} ${rangeText(counter[side].v)}`).join(", ")}`,
          );
          return figure;
        }),
      );
      say();
    }

    function say() {
      const [from, to] = group.window;
      resetButton.setAttribute("aria-disabled", String(group.isWhole())); // not disabled: it would lose the focus
      const head = group.isWhole() ? "All cycles" : `Selected: ${arrangement.read(from)} to ${arrangement.read(to)}`;
      brushText.replaceChildren(
        rca.el("strong", {}, head),
        rca.el(
          "ul",
          {},
          ...rca.SIDES.map((side) => {
            const selected = rca.selection(cycles[side], state.points[side], state.shown, from, to);
            return rca.el("li", {}, rca.swatch(side, 0), ` ${side}: ${rca.selectionText(selected, phases, titles)}`);
          }),
        ),
      );
    }

    function summary() {
      const texts = rca.SIDES.map((side) => {
        const selected = rca.selection(cycles[side], state.points[side], state.shown, -Infinity, Infinity);
        return `${side} ${rca.selectionText(selected, phases)}`;
      });
      return `Duration of each cycle over time: ${texts.join("; ")}. The table below has the figures.`;
    }

    function point(side, n, x, y, byKey) {
      mark.hidden = !side;
      if (!side) {
        rca.hideTip();
        return;
      }
      state.at = [side, n];
      const lines = rca.cycleLines(side, cycles, n, phases);
      mark.style.transform = `translate(${x - 8}px, ${y - 8}px)`;
      const box = chart.over.getBoundingClientRect();
      rca.showTip(box.left + x, box.top + y, lines);
      if (byKey) cursorText.textContent = lines.join(" · ");
    }

    function leave() {
      mark.hidden = true;
      rca.hideTip();
    }

    function key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
      if (event.key in steps) step(steps[event.key]);
      else if (event.key === "ArrowUp" || event.key === "ArrowDown") cross();
      else if (event.key === "+" || event.key === "=") group.zoom(0.5, xOfCursor());
      else if (event.key === "-") group.zoom(2, xOfCursor());
      else if (event.key === "0" || event.key === "Escape") group.reset();
      else return;
      event.preventDefault();
    }

    const xOfCursor = () => {
      const x = state.at ? state.points[state.at[0]].x[state.at[1]] : undefined;
      return x >= group.window[0] && x <= group.window[1] ? x : undefined;
    };

    function inWindow(side) {
      const { x, phase } = state.points[side];
      return [...x.keys()].filter((n) => state.shown.has(phase[n]) && x[n] >= group.window[0] && x[n] <= group.window[1]);
    }

    function step(by) {
      let side = state.at ? state.at[0] : "normal";
      if (!inWindow(side).length) side = rca.SIDES.find((other) => other !== side);
      const own = inWindow(side);
      if (!own.length) return;
      const now = state.at && state.at[0] === side ? rca.lowerBound(own, state.at[1]) : by > 0 ? -1 : own.length;
      goTo(side, own[rca.clamp(now + by, 0, own.length - 1)]);
    }

    /** To the cycle of the other side that is nearest on the x axis. */
    function cross() {
      const side = !state.at || state.at[0] === "abnormal" ? "normal" : "abnormal";
      const own = inWindow(side);
      if (!own.length) return;
      const { x } = state.points[side];
      const wanted = state.at ? state.points[state.at[0]].x[state.at[1]] : -Infinity;
      goTo(
        side,
        own.reduce((best, n) => (Math.abs(x[n] - wanted) < Math.abs(x[best] - wanted) ? n : best)),
      );
    }

    function goTo(side, n) {
      const [x, y] = [
        chart.valToPos(state.points[side].x[n], "x"),
        chart.valToPos(state.points[side].y[n] / state.unit.us, "y"),
      ];
      chart.setCursor({ left: x, top: y }, true);
      point(side, n, x, y, true);
    }

    return {
      resize: (to) => {
        width = to;
        build(group.window);
      },
      redraw: () => group.charts.forEach((each) => each.redraw(false, true)),
      destroy: () => group.charts.forEach((each) => each.destroy()),
    };
  }

  function rangeText(values) {
    if (!values.length) return "not measured";
    const [low, high] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
    return `${rca.number(low)} to ${rca.number(high)}`;
  }

  /** A button per phase that shows or hides it, and what hollow and ringed shapes mean. */
  function legend(rank, state, changed) {
    const { cycles, phases } = rank;
    const buttons = phases.map((name, phase) => {
      const counts = rca.SIDES.map((side) => cycles[side].phase.filter((own) => own === phase).length);
      const button = rca.pressed(
        name,
        true,
        (on) => {
          state.shown[on ? "add" : "delete"](phase);
          changed();
        },
        { class: "phase", "data-phase": name },
      );
      rca.SIDES.forEach((side, n) => button.append(" ", rca.swatch(side, phase), ` ${side} ${rca.number(counts[n])}`));
      return button;
    });
    const has = (wanted) => rca.SIDES.some((side) => wanted(cycles[side]));
    const note = (drawn, text) => rca.el("span", { class: "key-entry" }, drawn, ` ${text}`);
    const ring = () =>
      rca.svg(
        "svg",
        { class: "swatch hollow", width: 14, height: 14, viewBox: "0 0 14 14", "aria-hidden": "true" },
        rca.svg("circle", { cx: 7, cy: 7, r: 6 }),
        rca.svg("circle", { cx: 7, cy: 7, r: 2 }),
      );
    return rca.el(
      "div",
      { id: "cycles-legend", class: "legend", role: "group", "aria-label": "Phases shown" },
      ...buttons,
      has((own) => own.warmup || own.state.some(Boolean))
        ? note(rca.swatch("normal", 0, true), "hollow: warm-up, or not compared")
        : null,
      has((own) => own.outlier && own.outlier.some(Boolean)) ? note(ring(), "ringed: outlier") : null,
      note(
        rca.svg(
          "svg",
          { class: "swatch", width: 22, height: 14, viewBox: "0 0 22 14", "aria-hidden": "true" },
          rca.svg("line", { class: "side-normal", x1: 0, x2: 22, y1: 4, y2: 4 }),
          rca.svg("line", { class: "side-abnormal dashed", x1: 0, x2: 22, y1: 10, y2: 10 }),
        ),
        "medians",
      ),
    );
  }

  function chooser(rank, state, changed) {
    const { counters } = rank;
    if (!counters.length) return null;
    const summary = rca.el("summary", {});
    const count = () => {
      summary.textContent = `Counters on the same axis: ${state.counters.length} of ${counters.length}`;
    };
    const boxes = counters.map(({ metric, device }, n) => {
      const box = rca.el("input", { type: "checkbox", value: n, checked: state.counters.includes(n) });
      return rca.el("label", {}, box, ` ${metric}, ${device}`);
    });
    const list = rca.el("div", { class: "boxes" }, ...boxes);
    list.addEventListener("change", () => {
      state.counters = boxes.flatMap((label, n) => (label.firstChild.checked ? [n] : []));
      count();
      changed();
    });
    count();
    return rca.el("details", { id: "cycles-counter-choice", class: "chooser" }, summary, list);
  }

  function table(cycles, phases) {
    const headers = ["side", "cycle", "at, s", "duration, µs", "phase", "requests", "tokens", "notes"];
    return rca.SIDES.map((side) => {
      const own = cycles[side];
      const rows = own.t
        .slice(0, ROWS_OF_TABLE)
        .map((t, n) => [
          side,
          String(own.cycle[n]),
          rca.number(t, 6),
          rca.number(own.dur[n], 6),
          phases[own.phase[n]] || "",
          rca.number(own.batch && own.batch[n]),
          rca.number(own.tokens && own.tokens[n]),
          rca.cycleLines(side, cycles, n, phases).slice(3).join("; "),
        ]);
      const left = own.t.length - rows.length;
      return rca.el(
        "div",
        {},
        rca.table(`Cycles of the ${side} side`, headers, rows, [1, 2, 3, 5, 6]),
        left > 0 ? rca.el("p", {}, `${rca.plural(left, "later cycle")} of the ${side} side not shown.`) : null,
      );
    });
  }

  rca.views.push({ host: "cycles-plot", draw });
})((window.rcaPage = window.rcaPage || {}));
