/* The view of functions: a table of all of them. Only the rows in sight are in the document. */
(function (rca) {
  "use strict";

  const ROW = 34; // px; the style sheet says the same
  const HEIGHT = 620; // px that are in sight at most, as in the style sheet
  const BEYOND = 8; // rows kept on either side of those in sight
  const ALPHA = 0.05;

  const COLUMNS = [
    { key: "title", text: "function" },
    { key: "device", text: "device", level: "wide" },
    { key: "kind", text: "kind", level: "wide" },
    { key: "normal_us", text: "normal, µs", number: true },
    { key: "abnormal_us", text: "abnormal, µs", number: true, level: "narrow" },
    { key: "shift_us", text: "change, µs", number: true },
    { key: "spread", text: "spread", level: "middle", fixed: true },
    {
      key: "calls",
      text: "calls per cycle",
      number: true,
      level: "middle",
      value: (f, n) => f.abnormal_count[n] - f.normal_count[n],
    },
    { key: "q", text: "q", number: true, level: "wide", first: 1 },
    { key: "suspicion", text: "suspicion", number: true, level: "wide" },
  ];

  const valueOf = (column, f, n) => (column.value ? column.value(f, n) : f[column.key][n]);

  /** What a row is placed by at first: the size of its change; of the means where no test could be made. */
  const changeOf = (f, n) => Math.abs(f.shift_us[n] ?? f.abnormal_us[n] - f.normal_us[n]);

  function draw(host, rank, page) {
    const f = { ...rank.functions, title: rank.functions.name.map((n) => page.names[n]) };
    // Times of two kinds of work are no change of one.
    if (!rank.comparable) for (const column of ["shift_us", "low", "high", "p", "q"]) f[column] = f[column].map(() => null);
    const total = f.name.length;
    if (!total) return null; // the page itself says why there is none
    const state = { sort: null, down: true, open: null, active: 0, order: [], extra: 0 };
    const lower = f.title.map((title) => title.toLowerCase());
    const rows = new Map(); // by place in the order
    const count = rca.el("p", { id: "function-count", class: "live", role: "status" });
    const search = rca.el("input", {
      id: "function-search",
      type: "search",
      placeholder: "name, or /pattern/",
      "aria-label": "Search functions by name",
      spellcheck: "false",
      on: { input: filter },
    });
    const pick = (key, all) =>
      rca.el(
        "select",
        { id: `function-${key}`, "aria-label": `Filter by ${key}`, on: { change: filter } },
        rca.el("option", { value: "" }, all),
        ...[...new Set(f[key])].sort().map((value) => rca.el("option", {}, value)),
      );
    const device = pick("device", "all devices");
    const kind = pick("kind", "all kinds");
    const changed = rca.el("input", { id: "function-changed", type: "checkbox", on: { change: filter } });
    const headers = COLUMNS.map((column) =>
      rca.el(
        "th",
        { scope: "col", class: classOf(column), "data-key": column.key },
        column.fixed ? column.text : rca.button(column.text, () => sortBy(column)),
      ),
    );
    const top = rca.el("tr", { class: "spacer", "aria-hidden": "true" }, rca.el("td"));
    const bottom = top.cloneNode(true);
    const body = rca.el("tbody", { on: { keydown: key } }, top, bottom);
    const table = rca.el(
      "table",
      { class: "functions" },
      rca.el("thead", {}, rca.el("tr", { "aria-rowindex": 1 }, ...headers)),
      body,
    );
    const scroller = rca.el(
      "div",
      {
        id: "function-rows",
        class: "rows",
        tabindex: 0,
        role: "region",
        "aria-label": "Functions of both sides",
        on: { scroll: () => requestAnimationFrame(render) },
      },
      table,
    );
    let letters = 30;

    rca.fillHost(
      host,
      rca.el(
        "div",
        { class: "controls" },
        search,
        device,
        kind,
        rca.el("label", {}, changed, ` only changed (q < ${ALPHA})`),
      ),
      count,
      scroller,
      rca.el(
        "p",
        { class: "hint" },
        "Times are of a mean cycle, changes with their 95 % interval. Spread: 5 to 95 % of cycles thin, the middle half thick, the median " +
          "as a tick; normal above, abnormal below, each row on its own scale. Enter or a click on a name opens its row.",
      ),
    );
    function matcher() {
      const text = search.value.trim();
      const pattern = /^\/(.+)\/$/.exec(text);
      if (!pattern) return (n) => lower[n].includes(text.toLowerCase());
      try {
        const expression = new RegExp(pattern[1], "i");
        return (n) => expression.test(f.title[n]);
      } catch {
        return null;
      }
    }

    function filter() {
      const matches = matcher();
      count.textContent = "This is not a valid pattern.";
      if (!matches) return;
      state.order = [...f.name.keys()].filter(
        (n) =>
          matches(n) &&
          (!device.value || f.device[n] === device.value) &&
          (!kind.value || f.kind[n] === kind.value) &&
          (!changed.checked || (f.q[n] !== null && f.q[n] < ALPHA)),
      );
      const found = state.order.length;
      count.textContent =
        found === total ? rca.plural(total, "function") : `${rca.number(found)} of ${rca.plural(total, "function")}`;
      table.setAttribute("aria-rowcount", found + 1);
      sort();
    }

    function sortBy(column) {
      if (state.sort === column) state.down = !state.down;
      else [state.sort, state.down] = [column, Boolean(column.number) && !column.first];
      headers.forEach((header, n) => {
        if (COLUMNS[n] === column) header.setAttribute("aria-sort", state.down ? "descending" : "ascending");
        else header.removeAttribute("aria-sort");
      });
      sort();
    }

    function sort() {
      const first = rank.comparable ? changeOf : (_, n) => Math.max(f.normal_us[n], f.abnormal_us[n]);
      const key = (n) => (state.sort ? valueOf(state.sort, f, n) : first(f, n));
      const keys = f.name.map((_, n) => key(n));
      const sign = state.down ? -1 : 1;
      state.order.sort((a, b) => {
        const [left, right] = [keys[a], keys[b]];
        if (left === right) return a - b;
        if (left === null || right === null) return left === null ? 1 : -1; // what is not known comes last either way
        return left < right ? -sign : sign;
      });
      state.open = null;
      state.active = 0;
      scroller.scrollTop = 0;
      clear();
      render();
    }

    function clear() {
      for (const row of rows.values()) row.forEach((part) => part.remove());
      rows.clear();
    }

    /** The height of what lies above a row. */
    function above(place) {
      return place * ROW + (state.open !== null && place > state.open ? state.extra : 0);
    }

    function render() {
      const height = Math.max(scroller.clientHeight, HEIGHT); // it is not that high before it has rows
      const scrolled = scroller.scrollTop;
      let at = scrolled;
      if (state.open !== null) at -= rca.clamp(at - (state.open + 1) * ROW, 0, state.extra);
      const from = Math.max(Math.floor(at / ROW) - BEYOND, 0);
      const to = Math.min(Math.ceil((at + height) / ROW) + BEYOND, state.order.length);
      for (const [place, parts] of rows) {
        if (place >= from && place < to) continue;
        if (parts[0].contains(document.activeElement)) scroller.focus({ preventScroll: true });
        parts.forEach((part) => part.remove());
        rows.delete(place);
      }
      for (let place = from; place < to; place += 1) {
        if (rows.has(place)) continue;
        const parts = [row(place)];
        if (place === state.open) parts.push(detail(place));
        const next = [...rows.keys()].filter((other) => other > place);
        const before = next.length ? rows.get(Math.min(...next))[0] : bottom;
        parts.forEach((part) => body.insertBefore(part, before));
        rows.set(place, parts);
        if (parts[1]) state.extra = parts[1].offsetHeight;
      }
      const tab = rows.has(state.active) ? state.active : from;
      for (const [place, [own]] of rows) own.querySelector("button").tabIndex = place === tab ? 0 : -1;
      top.firstChild.style.height = above(from) + "px";
      bottom.firstChild.style.height = above(state.order.length) - above(to) + "px";
      top.hidden = from === 0;
      bottom.hidden = to === state.order.length;
      // While rows were missing the browser may have taken the table for shorter.
      if (scroller.scrollTop !== scrolled) scroller.scrollTop = scrolled;
    }

    function row(place) {
      const n = state.order[place];
      return rca.el(
        "tr",
        { "aria-rowindex": place + 2, class: f.q[n] !== null && f.q[n] < ALPHA ? "changed" : null },
        ...COLUMNS.map((column) =>
          rca.el(
            "td",
            { class: classOf(column), title: column.key === "title" ? f.title[n] : null },
            cell(column, n, place),
          ),
        ),
      );
    }

    function cell(column, n, place) {
      if (column.key === "title") {
        return rca.button(rca.elided(rca.shortName(page, f.name[n]), letters), () => toggle(place), {
          class: "name",
          "aria-expanded": String(state.open === place),
        });
      }
      if (column.key === "shift_us") return change(f, n);
      if (column.key === "spread") return spread(f.quantiles, n);
      if (column.key === "calls") {
        const [normal, abnormal] = [f.normal_count[n], f.abnormal_count[n]].map((count) => rca.number(count));
        return normal === abnormal ? normal : `${normal} → ${abnormal}`;
      }
      const value = valueOf(column, f, n);
      if (column.key === "q" && value !== null && value < 1e-4) return "< 0.0001";
      return column.number ? rca.number(value, column.key === "q" ? 2 : 4) : value;
    }

    function toggle(place) {
      const before = state.open;
      state.open = before === place ? null : place;
      state.active = place;
      // Only the rows whose state changed are made anew.
      for (const other of [before, place]) {
        if (other === null || !rows.has(other)) continue;
        rows.get(other).forEach((part) => part.remove());
        rows.delete(other);
      }
      render();
      rows.get(place)[0].querySelector("button").focus({ preventScroll: true });
    }

    function detail(place) {
      const n = state.order[place];
      const name = rca.el("code", { class: "full-name" }, f.title[n]);
      const copy = rca.button("Copy name", () => rca.copyText(f.title[n], name, copy));
      const link = f.link && f.link[n];
      const lines = rca.SIDES.map((side) => {
        const five = f.quantiles[side][n];
        return (
          `${side}: ` +
          (five
            ? `median ${rca.time(five[2])}, middle half ${rca.time(five[1])} to ${rca.time(five[3])}, 5 to 95 % ${rca.time(five[0])} to ${rca.time(five[4])}`
            : "not seen in a cycle")
        );
      });
      const test = f.p[n] === null ? "No test could be made." : `p ${rca.number(f.p[n], 2)}, q ${rca.number(f.q[n], 2)}.`;
      return rca.el(
        "tr",
        { class: "detail" },
        rca.el(
          "td",
          { colspan: headers.filter((header) => header.clientWidth).length },
          rca.el(
            "div",
            {},
            name,
            " ",
            copy,
            rca.el(
              "p",
              {},
              `${f.device[n]}, ${f.kind[n]}. Mean cycle: normal ${rca.time(f.normal_us[n])}, abnormal ${rca.time(f.abnormal_us[n])}. ${test}`,
            ),
            rca.el("ul", {}, ...lines.map((line) => rca.el("li", {}, line))),
            link
              ? rca.el(
                  "p",
                  {},
                  `Seen in cycle ${link.cycle} of the ${link.side} side: ${rca.placeText(link)} in `,
                  rca.el("code", {}, link.file),
                  rca.timelineLink(link),
                )
              : null,
          ),
        ),
      );
    }

    function key(event) {
      if (event.target.className !== "name") return;
      const page = Math.max(Math.floor(scroller.clientHeight / ROW) - 2, 1);
      const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
      if (event.key === "Escape" && state.open !== null) toggle(state.open);
      else if (event.key in steps) {
        const now = Number(event.target.closest("tr").getAttribute("aria-rowindex")) - 2;
        goTo(rca.clamp(now + steps[event.key], 0, state.order.length - 1));
      } else return;
      event.preventDefault();
    }

    function goTo(place) {
      state.active = place;
      const head = table.tHead.offsetHeight;
      const [from, to] = [scroller.scrollTop, scroller.scrollTop + scroller.clientHeight - head];
      if (above(place) < from) scroller.scrollTop = above(place);
      else if (above(place) + ROW > to) scroller.scrollTop = above(place) + ROW - scroller.clientHeight + head;
      render();
      rows.get(place)[0].querySelector("button").focus({ preventScroll: true });
    }

    function measure() {
      const pen = document.createElement("canvas").getContext("2d");
      pen.font = "13px ui-monospace, monospace";
      const width = headers[0].clientWidth || 200;
      letters = Math.max(Math.floor((width - 14) / pen.measureText("M").width), 8);
    }

    measure();
    filter();
    return {
      resize: () => {
        measure();
        clear();
        render();
      },
      redraw: () => {},
      destroy: () => {},
    };
  }

  const classOf = (column) => [column.number ? "num" : "", column.level || "", column.key].filter(Boolean).join(" ");

  function change(f, n) {
    const shift = f.shift_us[n];
    if (shift === null) return "–";
    const sign = (value) => rca.signed(value, rca.number(value, 3));
    const text = rca.el("span", {}, rca.el("span", { class: "shift" }, sign(shift)));
    if (f.low[n] !== null) text.append(rca.el("span", { class: "interval" }, `${sign(f.low[n])} to ${sign(f.high[n])}`));
    return text;
  }

  /** Two bars of ranges; their figures are in the opened row. */
  function spread(quantiles, n) {
    const both = rca.SIDES.map((side) => quantiles[side][n]);
    const known = both.filter(Boolean);
    if (!known.length) return "–";
    const low = Math.min(...known.map((five) => five[0]));
    const high = Math.max(...known.map((five) => five[4]));
    const x = (us) => 2 + (high > low ? (us - low) / (high - low) : 0.5) * 116;
    const drawing = rca.svg("svg", {
      class: "spread",
      width: 120,
      height: 26,
      viewBox: "0 0 120 26",
      "aria-hidden": "true",
    });
    both.forEach((five, n) => {
      if (!five) return;
      const y = 7 + n * 12;
      const side = `side-${rca.SIDES[n]}`;
      drawing.append(
        rca.svg("line", { class: side, x1: x(five[0]), x2: x(five[4]), y1: y, y2: y }),
        rca.svg("rect", { class: side, x: x(five[1]), width: Math.max(x(five[3]) - x(five[1]), 1), y: y - 3, height: 6 }),
        rca.svg("line", { class: "median", x1: x(five[2]), x2: x(five[2]), y1: y - 5, y2: y + 5 }),
      );
    });
    return drawing;
  }

  rca.views.push({ host: "function-table", draw });
})((window.rcaPage = window.rcaPage || {}));
