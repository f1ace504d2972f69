/* Cycles and counter samples as points of a plane, and what is said of a selection of them. Draws nothing. */
(function (rca) {
  "use strict";

  rca.NOT_COMPLETE = 2;

  const STATES = ["", "not compared: other phase or other work", "left out: not complete"];

  /** Ways to lay both sides on one axis. */
  rca.ARRANGEMENTS = [
    ["time", "overlaid"],
    ["apart", "side by side"],
    ["number", "by number"],
  ];

  /**
   * Where both sides lie on the x axis. `cycle(side, n)` is the x of a cycle; `place(side, t)` the x of a moment in seconds,
   * null outside what that side's cycles cover; `read(x)` is the text of an x; `splits(from, to, most)` are the x of ticks.
   */
  rca.arrangement = function (cycles, mode) {
    const ends = {};
    for (const side of rca.SIDES) {
      const { t, dur } = cycles[side];
      ends[side] = t.length ? t[t.length - 1] + dur[dur.length - 1] / 1e6 : 0;
    }
    if (mode === "number") return byNumber(cycles);
    const gap = mode === "apart" ? ends.normal + 0.04 * (ends.normal + ends.abnormal) : 0;
    const shift = { normal: 0, abnormal: gap };
    const ticks = (from, to, most) => {
      if (!gap) return rca.ticks(Math.max(from, 0), to, most);
      const each = Math.max(Math.floor(most / 2), 2);
      return [
        ...rca.ticks(Math.max(from, 0), Math.min(to, ends.normal), each),
        ...rca.ticks(Math.max(from - gap, 0), to - gap, each).map((t) => t + gap),
      ];
    };
    return {
      label: "seconds since each side's first cycle" + (gap ? "; normal left, abnormal right" : ""),
      cycle: (side, n) => cycles[side].t[n] + shift[side],
      place: (side, t) => (t < -1e-9 || t > ends[side] ? null : t + shift[side]),
      tick: (x) => rca.number(gap && x >= gap ? x - gap : x, 6),
      read: (x) =>
        rca.number(Math.max(gap && x >= gap ? x - gap : x, 0), 4) +
        " s" +
        (gap ? (x >= gap ? " (abnormal)" : " (normal)") : ""),
      splits: ticks,
    };
  };

  function byNumber(cycles) {
    return {
      label: "cycle, counted on each side",
      cycle: (_, n) => n + 1,
      place: (side, t) => {
        const starts = cycles[side].t;
        if (!starts.length || t < starts[0] || t > starts[starts.length - 1]) return null;
        const at = rca.lowerBound(starts, t);
        if (starts[at] === t || at === 0) return at + 1;
        return at + (t - starts[at - 1]) / (starts[at] - starts[at - 1]);
      },
      tick: (x) => (Number.isInteger(x) ? rca.number(x) : ""),
      read: (x) => "cycle " + rca.number(Math.round(x)),
      splits: (from, to, most) => rca.ticks(from, to, Math.min(most, Math.ceil(to - from) || 1)),
    };
  }

  /** Both sides' cycles as columns `x, y (µs), phase, hollow, outlier`, one entry per cycle in time order. */
  rca.points = function (cycles, arrangement) {
    const found = {};
    for (const side of rca.SIDES) {
      const own = cycles[side];
      found[side] = {
        x: own.t.map((_, n) => arrangement.cycle(side, n)),
        y: own.dur,
        phase: own.phase,
        hollow: own.dur.map((_, n) => n < (own.warmup || 0) || own.state[n] !== 0),
        outlier: own.outlier || [],
      };
    }
    return found;
  };

  /** What a tooltip says of a cycle, in lines. */
  rca.cycleLines = function (side, cycles, n, phases) {
    const own = cycles[side];
    const count = (name, word) => {
      const value = own[name] ? own[name][n] : null;
      return value === null || value === undefined ? null : rca.plural(value, word);
    };
    const batch = count("batch", "request");
    const tokens = count("tokens", "token");
    return [
      `${side}, cycle ${own.cycle[n]}: ${rca.time(own.dur[n])}`,
      [phases[own.phase[n]], batch, tokens].filter(Boolean).join(", "),
      `at ${rca.number(own.t[n], 5)} s`,
      n < (own.warmup || 0) ? "warm-up" : null,
      STATES[own.state[n]] || null,
      own.outlier && own.outlier[n] ? "outlier" : null,
      own.notes ? own.notes[n] || null : null,
    ].filter(Boolean);
  };

  /**
   * What is said of the cycles of one side between two x: which, quartiles in µs per phase, and each part's share of time.
   * Cycles that are not complete have no whole duration and count nowhere.
   */
  rca.selection = function (own, points, shown, from, to) {
    const picked = [];
    points.x.forEach((x, n) => {
      if (x >= from && x <= to && shown.has(own.phase[n]) && own.state[n] !== rca.NOT_COMPLETE) picked.push(n);
    });
    const whole = picked.reduce((sum, n) => sum + own.dur[n], 0);
    const shares = Object.entries(own.parts || {}).map(([part, times]) => [
      part,
      whole ? picked.reduce((sum, n) => sum + (times[n] || 0), 0) / whole : 0,
    ]);
    const quartiles = [...shown]
      .sort()
      .map((phase) => {
        const sorted = picked
          .filter((n) => own.phase[n] === phase)
          .map((n) => own.dur[n])
          .sort((a, b) => a - b);
        return { phase, n: sorted.length, us: sorted.length ? [0.25, 0.5, 0.75].map((q) => rca.quantile(sorted, q)) : null };
      })
      .filter(({ n }) => n);
    return { picked, quartiles, shares };
  };

  /** The sentence of a selection. `titles` maps a part to its text; without it parts are not said. */
  rca.selectionText = function ({ picked, quartiles, shares }, phases, titles) {
    if (!picked.length) return "no cycle";
    const spread = ({ n, us: [low, median, high] }) =>
      `median ${rca.time(median)}` + (n > 1 ? ` (middle half ${rca.time(low, 3)} to ${rca.time(high, 3)})` : "");
    const count = `${rca.plural(picked.length, "cycle")}`;
    const durations =
      quartiles.length === 1
        ? `${count} (${phases[quartiles[0].phase]}), ${spread(quartiles[0])}`
        : `${count}, ${quartiles.map((one) => `${rca.number(one.n)} ${phases[one.phase]}, ${spread(one)}`).join("; ")}`;
    const parts = titles
      ? shares
          .filter(([, share]) => share >= 0.005)
          .sort((a, b) => b[1] - a[1])
          .map(([part, share]) => `${titles.get(part) || part} ${rca.percent(share)}`)
      : [];
    return durations + (parts.length ? `; of their time: ${parts.join(", ")}` : "");
  };
})((window.rcaPage = window.rcaPage || {}));
