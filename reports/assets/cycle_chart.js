/* Charts of cycles and counters on one x axis, drawn with uPlot: it does axes, zoom and the cursor, shapes are ours. */
(function (rca) {
  "use strict";

  const LABEL = 18;
  const AXIS_WIDTH = 64; // the same for all charts, so that their x axes lie below each other
  const MOST_HIT = 24; // px from the pointer within which a cycle is the one meant

  const axis = (more) => ({
    stroke: () => rca.colour("dim"),
    font: rca.FONT,
    labelFont: rca.FONT,
    labelSize: LABEL,
    grid: { stroke: () => rca.colour("line"), width: 1 },
    ticks: { stroke: () => rca.colour("line"), width: 1, size: 4 },
    ...more,
  });

  /** What charts on one x axis have in common: their window, their cursor, and how a drag selects. */
  rca.chartGroup = function (key, full, changed) {
    const group = { charts: [], full, window: full.slice() };

    group.setWindow = function (from, to) {
      const least = (full[1] - full[0]) / 1e4;
      if (!(to - from > least)) return;
      group.window = [Math.max(from, full[0]), Math.min(to, full[1])];
      group.apply();
      changed();
    };
    group.reset = () => group.setWindow(full[0], full[1]);
    group.isWhole = () => group.window[0] <= full[0] && group.window[1] >= full[1];
    group.zoom = function (factor, at) {
      const [from, to] = group.window;
      const middle = at === undefined ? (from + to) / 2 : at;
      group.setWindow(middle - (middle - from) * factor, middle + (to - middle) * factor);
    };
    group.pan = function (share) {
      const [from, to] = group.window;
      const by = rca.clamp((to - from) * share, full[0] - from, full[1] - to);
      group.setWindow(from + by, to + by);
    };
    group.apply = () => group.charts.forEach((chart) => chart.setScale("x", { min: group.window[0], max: group.window[1] }));

    group.options = function (arrangement, yAxis, yScale, more) {
      return {
        legend: { show: false },
        padding: [8, 10, 0, 0],
        scales: { x: { time: false, range: () => group.window }, y: yScale },
        axes: [
          axis({
            size: more.xLabel ? 30 : 24,
            label: more.xLabel ? arrangement.label : undefined,
            splits: (u, _, from, to) =>
              arrangement.splits(from, to, Math.max(2, Math.floor(u.bbox.width / uPlot.pxRatio / 70))),
            values: (_, splits) => splits.map(arrangement.tick),
          }),
          axis({ size: AXIS_WIDTH - (yAxis.label ? LABEL : 0), ...yAxis }),
        ],
        cursor: {
          y: more.horizontal,
          points: { show: false },
          drag: { x: true, y: false, dist: 4, setScale: false },
          bind: { dblclick: () => null },
          // A drag is no business of the other charts: they get the new window when it ends.
          sync: {
            key,
            setSeries: false,
            scales: ["x", null],
            filters: { pub: (type) => type === "mousemove" || type === "mouseleave" },
          },
        },
        ...more.options,
        hooks: { ...more.hooks, setSelect: [(u) => select(group, u)] },
      };
    };

    group.add = function (options, data, host, width, height) {
      const chart = new uPlot({ ...options, width, height }, data, host);
      chart.ctx.canvas.setAttribute("role", "img");
      dragByTouch(group, chart);
      group.charts.push(chart);
      return chart;
    };
    return group;
  };

  function select(group, chart) {
    const { left, width } = chart.select;
    if (!(width > 0)) return;
    const [from, to] = [chart.posToVal(left, "x"), chart.posToVal(left + width, "x")];
    chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    group.setWindow(from, to);
  }

  /** uPlot listens to the mouse only; a finger that moves sideways selects too (up and down still scrolls the page). */
  function dragByTouch(group, chart) {
    let from = null;
    const at = (event) => rca.clamp(event.clientX - chart.over.getBoundingClientRect().left, 0, chart.over.clientWidth);
    const span = (event) => [Math.min(from, at(event)), Math.abs(at(event) - from)];
    chart.over.addEventListener("pointerdown", (event) => {
      if (event.pointerType !== "mouse") from = at(event);
    });
    chart.over.addEventListener("pointermove", (event) => {
      if (from === null) return;
      const [left, width] = span(event);
      chart.setSelect({ left, top: 0, width, height: chart.over.clientHeight }, false);
    });
    chart.over.addEventListener("pointercancel", () => {
      from = null;
    });
    chart.over.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const [left, width] = span(event);
      from = null;
      chart.setSelect({ left, top: 0, width: width > 8 ? width : 0, height: 0 }, true);
    });
  }

  // ---- cycles --------------------------------------------------------------------------------------------------

  /** The chart of cycles. `state` is {points, shown (phases), log, unit, selected()}; `pointed(side, n, x, y)` names the
      cycle that the pointer means, null where it means none. */
  rca.cycleChart = function (group, host, arrangement, state, width, height, pointed) {
    const scale = { distr: state.log ? 3 : 1, range: () => yRange(group, state) };
    const options = group.options(
      arrangement,
      { label: `cycle duration, ${state.unit.text}${state.log ? " (log)" : ""}` },
      scale,
      {
        xLabel: true,
        horizontal: true,
        options: { series: [{}, { paths: () => null, points: { show: false } }] },
        hooks: {
          draw: [(u) => drawCycles(u, state)],
          setCursor: [
            (u) => {
              // A cursor that another chart moved has no place on the y axis: it means no cycle.
              if (u.cursor.event && u.cursor.left >= 0 && u.cursor.top >= 0) pointed(...nearest(u, state));
            },
          ],
        },
      },
    );
    const xs = rca.SIDES.flatMap((side) => state.points[side].x).sort((a, b) => a - b);
    const chart = group.add(options, [xs, xs.map(() => null)], host, width, height);
    chart.over.addEventListener("mouseleave", () => pointed(null));
    return chart;
  };

  function* visible(group, state) {
    const [from, to] = group.window;
    for (const side of rca.SIDES) {
      const { x, y, phase } = state.points[side];
      for (let n = 0; n < x.length; n += 1) {
        if (x[n] >= from && x[n] <= to && state.shown.has(phase[n])) yield [side, n, x[n], y[n] / state.unit.us];
      }
    }
  }

  function yRange(group, state) {
    let low = Infinity;
    let high = -Infinity;
    for (const [, , , y] of visible(group, state)) {
      if (y > 0 || !state.log) low = Math.min(low, y);
      high = Math.max(high, y);
    }
    if (!(high >= low) || high <= 0) return state.log ? [0.1, 1] : [0, 1];
    if (state.log) return [low / 1.3, high * 1.3];
    // A change of a few percent must be seen, so the axis begins at 0 only where the values come near it.
    const margin = (high - low) * 0.08 || high * 0.05;
    return [low > high / 2 ? low - margin : 0, high + margin];
  }

  function nearest(chart, state) {
    const { left, top } = chart.cursor;
    let best = [null];
    let least = MOST_HIT ** 2;
    for (const [side, n, x, y] of visible({ window: [chart.scales.x.min, chart.scales.x.max] }, state)) {
      const [px, py] = [chart.valToPos(x, "x"), chart.valToPos(y, "y")];
      const distance = (px - left) ** 2 + (py - top) ** 2;
      if (distance < least) [best, least] = [[side, n, px, py], distance];
    }
    return best;
  }

  function drawCycles(chart, state) {
    const { ctx, bbox } = chart;
    const ratio = uPlot.pxRatio;
    const groups = new Map();
    let count = 0;
    for (const [side, n, x, y] of visible({ window: [chart.scales.x.min, chart.scales.x.max] }, state)) {
      const { phase, hollow, outlier } = state.points[side];
      const kind = `${side} ${phase[n]} ${hollow[n] ? 1 : 0}`;
      if (!groups.has(kind)) groups.set(kind, []);
      groups.get(kind).push([chart.valToPos(x, "x", true), chart.valToPos(y, "y", true), outlier[n]]);
      count += 1;
    }
    const radius = (count < 300 ? 4 : count < 2000 ? 3 : 2) * ratio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left - radius, bbox.top - radius, bbox.width + 2 * radius, bbox.height + 2 * radius);
    ctx.clip();
    for (const [kind, places] of groups) {
      const [side, phase, hollow] = kind.split(" ");
      const colour = rca.colour(hollow === "1" ? "dim" : side);
      ctx.beginPath();
      for (const [x, y] of places) rca.traceShape(ctx, rca.shape(side, Number(phase)), x, y, radius);
      ctx.lineWidth = ratio;
      if (hollow === "1") {
        ctx.strokeStyle = colour;
        ctx.stroke();
      } else {
        ctx.fillStyle = colour;
        ctx.globalAlpha = count < 300 ? 0.9 : 0.6;
        ctx.fill();
        ctx.globalAlpha = 1;
      }
      ctx.strokeStyle = colour;
      ctx.beginPath();
      for (const [x, y, outlier] of places) if (outlier) rca.traceShape(ctx, null, x, y, radius * 2);
      ctx.stroke();
    }
    drawMedians(chart, state);
    ctx.restore();
  }

  /** A line at the median of each side and phase, over the cycles it was taken of: dashed for the abnormal side. */
  function drawMedians(chart, state) {
    const { ctx } = chart;
    for (const side of rca.SIDES) {
      const { x, y, phase, hollow } = state.points[side];
      for (const own of state.shown) {
        const inside = x
          .map((_, n) => n)
          .filter((n) => phase[n] === own && !hollow[n] && x[n] >= chart.scales.x.min && x[n] <= chart.scales.x.max);
        if (inside.length < 5) continue;
        const median =
          rca.quantile(
            inside.map((n) => y[n]).sort((a, b) => a - b),
            0.5,
          ) / state.unit.us;
        const level = Math.round(chart.valToPos(median, "y", true));
        ctx.strokeStyle = rca.colour(side);
        ctx.lineWidth = 1.5 * uPlot.pxRatio;
        ctx.setLineDash(side === "normal" ? [] : [6 * uPlot.pxRatio, 4 * uPlot.pxRatio]);
        ctx.beginPath();
        ctx.moveTo(chart.valToPos(x[inside[0]], "x", true), level);
        ctx.lineTo(chart.valToPos(x[inside[inside.length - 1]], "x", true), level);
        ctx.stroke();
      }
    }
    ctx.setLineDash([]);
  }

  // ---- counters ------------------------------------------------------------------------------------------------

  /** A small chart of one counter: the normal side as a solid line, the abnormal one dashed. */
  rca.counterChart = function (group, host, arrangement, counter, width, height) {
    const tables = rca.SIDES.map((side) => {
      const [x, y] = [[], []];
      counter[side].t.forEach((t, n) => {
        const at = arrangement.place(side, t);
        // Samples that fall on one x would not be ascending; the last one stands.
        if (at === null || at === x[x.length - 1]) return;
        x.push(at);
        y.push(counter[side].v[n]);
      });
      return [x, y];
    });
    const line = (side, dash) => ({
      stroke: () => rca.colour(side),
      width: 1.5,
      dash,
      spanGaps: true,
      points: { show: tables[rca.SIDES.indexOf(side)][0].length < 40, size: 4, fill: () => rca.colour(side) },
    });
    const options = group.options(
      arrangement,
      { space: 26, values: (_, splits) => splits.map(rca.compact) },
      {},
      { horizontal: false, options: { series: [{}, line("normal"), line("abnormal", [6, 4])] }, hooks: {} },
    );
    return group.add(options, uPlot.join(tables), host, width, height);
  };
})((window.rcaPage = window.rcaPage || {}));
