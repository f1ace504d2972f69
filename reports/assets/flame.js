/* The differential flame graph: call trees of both sides in one, root on top. Width is time, colour is its change. */
(function (rca) {
  "use strict";

  const ROW = 19;
  const LETTER = 7;
  const ROWS_OF_TABLE = 50;

  // Change relative to the larger side, from less to more, and as a ratio of the sides: seven steps can be told apart, a
  // ramp cannot.
  const STEPS = [
    [-0.5, "less-3", "under ×0.5"],
    [-0.2, "less-2", "×0.5 to 0.8"],
    [-0.05, "less-1", "×0.8 to 0.95"],
    [0.05, "same", "within 5 %"],
    [0.2, "more-1", "×1.05 to 1.25"],
    [0.5, "more-2", "×1.25 to 2"],
    [Infinity, "more-3", "over ×2"],
  ];
  const WIDTHS = [
    ["larger", "larger of both"],
    ["normal", "normal"],
    ["abnormal", "abnormal"],
  ];

  function draw(host, rank, page) {
    const { stacks } = rank;
    host.hidden = !stacks || !stacks.name.length;
    if (host.hidden) return null;
    const tree = grown(stacks, page);
    const state = { by: "larger", root: tree.root, picked: tree.root, found: null, boxes: [] };
    const canvas = rca.el("canvas", {
      role: "img",
      "aria-label": `Differential flame graph of ${rca.plural(stacks.name.length, "call path")}; the table below has the largest changes.`,
    });
    const area = rca.el(
      "div",
      {
        id: "flame-graph",
        class: "flame-canvas",
        tabindex: 0,
        role: "application",
        "aria-label":
          "Differential flame graph. Up goes to the caller, down to the widest call, left and right to its neighbours, Enter shows a call alone, Escape goes back, 0 shows everything.",
        on: { keydown: key },
      },
      canvas,
    );
    const path = rca.el("nav", { id: "flame-path", "aria-label": "Shown part of the call tree" });
    const text = rca.live("flame-cursor");
    const search = rca.el("input", {
      id: "flame-search",
      type: "search",
      placeholder: "find calls",
      "aria-label": "Find calls by name",
      spellcheck: "false",
      on: { input: find },
    });
    const found = rca.live("flame-found");
    let width = host.clientWidth;

    rca.fillHost(
      host,
      rca.el("h3", {}, "Call trees"),
      rca.el(
        "div",
        { class: "controls" },
        search,
        rca.choice(
          "Width",
          WIDTHS,
          state.by,
          (by) => {
            state.by = by;
            redraw();
          },
          "flame-width",
        ),
        found,
      ),
      rca.el(
        "div",
        { class: "legend", role: "group", "aria-label": "Colours" },
        rca.el("span", {}, "Abnormal against normal:"),
        ...STEPS.map(([, name, words]) =>
          rca.el(
            "span",
            { class: "key-entry" },
            rca.el("span", { class: `patch ${name}`, "aria-hidden": "true" }, mark(name)),
            ` ${words}`,
          ),
        ),
      ),
      path,
      area,
      text,
      stacks.note ? rca.el("p", { class: "hint" }, stacks.note) : null,
      rca.details(`The ${ROWS_OF_TABLE} largest changes`, table),
    );
    const widthOf = (node) => node.width[state.by];

    function redraw() {
      const above = [];
      for (let node = state.root; node; node = node.parent) above.unshift(node);
      state.boxes = above.map((node, n) => [node, 0, n * ROW, width, node !== state.root]);
      place(state.root, 0, above.length * ROW, width);
      const pen = rca.sized(canvas, width, Math.max(...state.boxes.map((own) => own[2])) + ROW);
      pen.font = "11.5px ui-monospace, monospace";
      pen.textBaseline = "middle";
      state.boxes.forEach((own) => box(pen, ...own));
    }

    function place(node, left, top, room) {
      const whole = widthOf(node);
      let x = left;
      for (const child of node.children) {
        const own = whole ? (widthOf(child) / whole) * room : 0;
        // Too narrow to be seen, and so is all it calls.
        if (own >= 0.4) {
          state.boxes.push([child, x, top, own, false]);
          place(child, x, top + ROW, own);
        }
        x += own;
      }
    }

    function box(pen, node, x, y, own, faded) {
      const isDim = state.found && !state.found.has(node);
      pen.globalAlpha = isDim || faded ? 0.45 : 1;
      pen.fillStyle = rca.colour(node.step);
      pen.fillRect(x, y, Math.max(own - 1, 0.5), ROW - 1);
      pen.globalAlpha = 1;
      const letters = Math.floor((own - 8) / LETTER);
      if (letters > 2) {
        pen.fillStyle = rca.colour(isDim || faded ? "ink" : node.step.endsWith("3") ? "flame-strong-ink" : "flame-ink");
        pen.fillText(rca.elided(mark(node.step) + node.short, letters), x + 4, y + ROW / 2);
      }
      if (node !== state.picked && !(state.found && !isDim)) return;
      pen.strokeStyle = rca.colour("ink");
      pen.lineWidth = node === state.picked ? 2 : 1;
      pen.strokeRect(x + 1, y + 1, Math.max(own - 3, 1), ROW - 3);
    }

    function show(node) {
      state.root = node;
      state.picked = node;
      const steps = [];
      for (let each = node; each; each = each.parent) steps.unshift(each);
      path.replaceChildren(
        ...steps.flatMap((each, n) => [
          n ? " › " : "",
          each === node
            ? rca.el("span", { "aria-current": "true" }, rca.elided(each.name, 60))
            : rca.button(rca.elided(each.name, 30), () => show(each), { title: each.name }),
        ]),
      );
      redraw();
    }

    const lines = (node) => [
      node.name,
      `normal ${rca.time(node.normal)}, abnormal ${rca.time(node.abnormal)} per cycle`,
      `${rca.signed(node.change, rca.time(node.change, 3))}${node.normal ? ` (${rca.signed(node.change, rca.percent(node.change / node.normal))})` : ", not on the normal side"}`,
    ];

    function pick(node) {
      state.picked = node;
      text.textContent = lines(node).join(" · ");
      redraw();
    }

    function hit(event) {
      const frame = canvas.getBoundingClientRect();
      const [px, py] = [event.clientX - frame.left, event.clientY - frame.top];
      const own = state.boxes.find(([, x, y, size]) => py >= y && py < y + ROW && px >= x && px < x + Math.max(size, 1));
      return own ? own[0] : null;
    }

    canvas.addEventListener("pointermove", (event) => {
      const node = hit(event);
      if (node) rca.showTip(event.clientX, event.clientY, lines(node));
      else rca.hideTip();
    });
    canvas.addEventListener("pointerleave", rca.hideTip);
    canvas.addEventListener("click", (event) => {
      const node = hit(event);
      if (!node) return;
      show(node);
      pick(node);
    });

    function key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const node = state.picked;
      const siblings = node.parent ? node.parent.children.filter(widthOf) : [node];
      const beside = (by) => siblings[rca.clamp(siblings.indexOf(node) + by, 0, siblings.length - 1)];
      if (event.key === "ArrowUp" && node.parent) pick(node.parent);
      else if (event.key === "ArrowDown" && node.children.length)
        pick(node.children.reduce((a, b) => (widthOf(b) > widthOf(a) ? b : a)));
      else if (event.key === "ArrowLeft" && node !== state.root) pick(beside(-1));
      else if (event.key === "ArrowRight" && node !== state.root) pick(beside(1));
      else if (event.key === "Enter") {
        show(node);
        pick(node);
      } else if (event.key === "Escape" && state.root.parent) show(state.root.parent);
      else if (event.key === "0") show(tree.root);
      else return;
      event.preventDefault();
      const own = state.boxes.find(([other]) => other === state.picked);
      if (own && (own[2] < area.scrollTop || own[2] + ROW > area.scrollTop + area.clientHeight))
        area.scrollTop = own[2] - 60;
    }

    function find() {
      const wanted = search.value.trim().toLowerCase();
      state.found = wanted ? new Set(tree.nodes.filter((node) => node.name.toLowerCase().includes(wanted))) : null;
      if (state.found) {
        // A call inside another one that is found is counted with that one.
        const outer = [...state.found].filter((node) => {
          for (let up = node.parent; up; up = up.parent) if (state.found.has(up)) return false;
          return true;
        });
        const [normal, abnormal] = rca.SIDES.map((side) => rca.time(outer.reduce((sum, node) => sum + node[side], 0)));
        found.textContent = `${rca.plural(state.found.size, "call")} found: normal ${normal}, abnormal ${abnormal} per cycle`;
      } else found.textContent = "";
      redraw();
    }

    function table() {
      const largest = tree.nodes
        .slice(1)
        .sort((a, b) => Math.abs(b.change) - Math.abs(a.change))
        .slice(0, ROWS_OF_TABLE);
      return rca.table(
        "Largest changes of the call tree",
        ["call", "called by", "normal, µs", "abnormal, µs", "change, µs"],
        largest.map((node) => [
          rca.el("code", {}, node.name),
          rca.el("code", {}, node.parent.name),
          rca.number(node.normal, 4),
          rca.number(node.abnormal, 4),
          rca.signed(node.change, rca.number(node.change, 4)),
        ]),
        [2, 3, 4],
      );
    }

    show(tree.root);
    return {
      resize: (to) => {
        width = to;
        redraw();
      },
      redraw,
      destroy: () => {},
    };
  }

  /** Told by a sign as well as by its colour. */
  const mark = (step) => (step.startsWith("more") ? "▲ " : step.startsWith("less") ? "▼ " : "");

  /** The rows of `stacks` as nodes below one root, and how wide each is. */
  function grown(stacks, page) {
    const root = { name: "all", short: "all", parent: null, children: [], normal: 0, abnormal: 0 };
    const nodes = stacks.name.map((name, n) => ({
      name: page.names[name],
      short: rca.shortName(page, name),
      parent: null,
      children: [],
      normal: stacks.normal[n],
      abnormal: stacks.abnormal[n],
    }));
    nodes.forEach((node, n) => {
      node.parent = stacks.parent[n] < 0 ? root : nodes[stacks.parent[n]];
      node.parent.children.push(node);
      if (node.parent === root)
        rca.SIDES.forEach((side) => {
          root[side] += node[side];
        });
    });
    finish(root);
    return { root, nodes: [root, ...nodes] };
  }

  /** A node is at least as wide as what it calls: of the larger side, calls may sum to more than their caller. */
  function finish(node) {
    node.children.forEach(finish);
    node.change = node.abnormal - node.normal;
    const larger = Math.max(node.normal, node.abnormal);
    node.step = STEPS.find(([most]) => (larger ? node.change / larger : 0) <= most)[1];
    node.width = {};
    for (const [by] of WIDTHS) {
      const own = by === "larger" ? larger : node[by];
      node.width[by] = Math.max(
        own,
        node.children.reduce((sum, child) => sum + child.width[by], 0),
      );
    }
    node.children.sort((a, b) => b.width.larger - a.width.larger);
  }

  rca.views.push({ host: "flame", draw });
})((window.rcaPage = window.rcaPage || {}));
