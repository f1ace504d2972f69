/* What every view uses: elements, figures as text, colours of the style sheet, shapes, the tooltip, tables.
   Whatever comes from a capture is set as text, never as markup. */
(function (rca) {
  "use strict";

  const SVG = "http://www.w3.org/2000/svg";

  /** Makes an element. `on` holds listeners; null, undefined and false leave an attribute out; children may be text. */
  rca.el = function (tag, attributes, ...children) {
    return filled(document.createElement(tag), attributes, children);
  };

  rca.svg = function (tag, attributes, ...children) {
    return filled(document.createElementNS(SVG, tag), attributes, children);
  };

  function filled(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key === "on") for (const [type, listener] of Object.entries(value)) node.addEventListener(type, listener);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.filter(isThere));
    return node;
  }

  const isThere = (child) => child !== null && child !== undefined;

  /** Replaces what is in a host; null leaves a child out. */
  rca.fillHost = (host, ...children) => host.replaceChildren(...children.filter(isThere));

  // ---- figures -------------------------------------------------------------------------------------------------

  const format = new Intl.NumberFormat("en-US", { maximumFractionDigits: 6 });
  const MINUS = "\u2212";

  /** A number with at most `digits` significant digits (whole numbers are never cut), a dash where there is none. */
  rca.number = function (value, digits) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    const wanted = digits || 3;
    const whole = Math.abs(value) >= 10 ** wanted ? Math.round(value) : Number(value.toPrecision(wanted));
    return format.format(whole).replace("-", MINUS);
  };

  const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 4 });

  /** A number for an axis: 12K, 3.4M. */
  rca.compact = (value) => short.format(value).replace("-", MINUS);

  rca.unitOf = function (us) {
    const size = Math.abs(us);
    return size < 1e3 ? { text: "µs", us: 1 } : size < 1e6 ? { text: "ms", us: 1e3 } : { text: "s", us: 1e6 };
  };

  /** A time given in µs, in the unit that suits it. */
  rca.time = function (us, digits) {
    if (us === null || us === undefined || !Number.isFinite(us)) return "–";
    const unit = rca.unitOf(us);
    return rca.number(us / unit.us, digits || 4) + " " + unit.text;
  };

  /** Where something lies in a file: as the file counts or, where that is not known, on the capture's clock. */
  rca.placeText = function (link) {
    const at = link.ts_us === null ? `ts ${link.ts_ns} ns on the capture's clock` : `ts ${link.ts_us} µs`;
    return `${at}, dur ${link.dur_us} µs`;
  };

  /** Whether `rca open` serves the page, which it does on this machine alone: a file or another server has no traces to give. */
  rca.isServed = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);

  /** A link to that moment in Perfetto, where there is somebody to hand the trace over. */
  rca.timelineLink = function (link) {
    if (!rca.isServed) return null;
    const dur = Math.round(link.dur_us * 1000);
    const href = `perfetto/${link.side}?ts=${link.ts_ns}&dur=${dur}&file=${link.sha256}`;
    return rca.el("a", { class: "perfetto", href }, " show in Perfetto");
  };

  rca.signed = function (value, text) {
    return value > 0 ? "+" + text : text;
  };

  rca.percent = function (share) {
    const percent = share * 100;
    return (Math.abs(percent) < 10 ? rca.number(percent, 2) : rca.number(Math.round(percent))) + " %";
  };

  rca.plural = function (n, word) {
    return rca.number(n) + " " + word + (n === 1 ? "" : "s");
  };

  /** Cuts the middle out of a name: kernels differ at both ends. */
  rca.elided = function (text, most) {
    if (text.length <= most) return text;
    if (most < 4) return text.slice(0, Math.max(most, 0));
    const tail = Math.floor((most - 1) * 0.4);
    return text.slice(0, most - 1 - tail) + "…" + text.slice(text.length - tail);
  };

  /** What stands where the whole name does not fit: without parameters and template lists where the page has such names. */
  rca.shortName = (page, n) => (page.short && page.short[n]) || page.names[n];

  rca.quantile = function (sorted, q) {
    const at = (sorted.length - 1) * q;
    const low = Math.floor(at);
    return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (at - low);
  };

  /** The first index of an ascending array whose value is not less than `value`. */
  rca.lowerBound = function (ascending, value) {
    let low = 0;
    let high = ascending.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ascending[middle] < value) low = middle + 1;
      else high = middle;
    }
    return low;
  };

  rca.clamp = (value, low, high) => Math.max(low, Math.min(high, value));

  /** Round values that divide a range into at most `most` steps. */
  rca.ticks = function (from, to, most) {
    const rough = (to - from) / Math.max(most, 1);
    if (!(rough > 0)) return [from];
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) * power;
    const found = [];
    for (let n = Math.ceil(from / step - 1e-9); n * step <= to + step * 1e-9; n += 1) found.push(n * step);
    return found;
  };

  // ---- colours and shapes --------------------------------------------------------------------------------------

  let colours = new Map();

  /** A colour of the style sheet: `rca.colour("ink")` is `--ink` as the page shows it now. */
  rca.colour = function (name) {
    if (!colours.has(name)) {
      colours.set(
        name,
        getComputedStyle(document.documentElement)
          .getPropertyValue("--" + name)
          .trim() || "gray",
      );
    }
    return colours.get(name);
  };

  rca.forgetColours = () => {
    colours = new Map();
  };

  rca.SIDES = ["normal", "abnormal"];

  // Round for the normal side, pointed for the other, whatever the colour; later phases change the shape, not the family.
  const SHAPES = {
    normal: [
      null,
      [
        [-0.85, -0.85],
        [0.85, -0.85],
        [0.85, 0.85],
        [-0.85, 0.85],
      ],
      [
        [-0.45, -1],
        [0.45, -1],
        [0.45, 1],
        [-0.45, 1],
      ],
    ],
    abnormal: [
      [
        [0, -1.1],
        [1.05, 0.8],
        [-1.05, 0.8],
      ],
      [
        [0, -1.2],
        [1, 0],
        [0, 1.2],
        [-1, 0],
      ],
      [
        [0, 1.1],
        [1.05, -0.8],
        [-1.05, -0.8],
      ],
    ],
  };

  rca.shape = (side, phase) => SHAPES[side][phase % SHAPES[side].length];

  rca.traceShape = function (context, shape, x, y, radius) {
    if (!shape) {
      context.moveTo(x + radius, y);
      context.arc(x, y, radius, 0, 2 * Math.PI);
      return;
    }
    shape.forEach(([dx, dy], n) => context[n ? "lineTo" : "moveTo"](x + dx * radius, y + dy * radius));
    context.closePath();
  };

  /** The same shape for a legend. */
  rca.swatch = function (side, phase, hollow) {
    const shape = rca.shape(side, phase);
    const drawn = shape
      ? rca.svg("polygon", { points: shape.map(([x, y]) => `${7 + x * 5},${7 + y * 5}`).join(" ") })
      : rca.svg("circle", { cx: 7, cy: 7, r: 5 });
    const kind = `swatch side-${side}${hollow ? " hollow" : ""}`;
    return rca.svg("svg", { class: kind, width: 14, height: 14, viewBox: "0 0 14 14", "aria-hidden": "true" }, drawn);
  };

  /** A fill that tells kinds apart without colour: "hatch", "cross" or "dots". */
  rca.fill = function (context, colour, pattern) {
    const size = 8;
    const tile = rca.el("canvas", { width: size, height: size });
    const pen = tile.getContext("2d");
    pen.strokeStyle = pen.fillStyle = colour;
    if (pattern === "dots") pen.fillRect(2, 2, 2, 2);
    // Three parallels, so that the lines go on across the edges of tiles.
    else
      for (const shift of [-size, 0, size]) {
        pen.moveTo(shift, size);
        pen.lineTo(shift + size, 0);
        if (pattern === "cross") {
          pen.moveTo(shift, 0);
          pen.lineTo(shift + size, size);
        }
      }
    pen.stroke();
    return context.createPattern(tile, "repeat");
  };

  /** Sizes a canvas for sharp lines; returns its context in units of CSS pixels, cleared. */
  rca.sized = function (canvas, width, height) {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = width + "px";
    canvas.style.height = height + "px";
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    return context;
  };

  rca.FONT = "12px system-ui, sans-serif";

  // ---- parts of views ------------------------------------------------------------------------------------------

  let tip = null;

  /** Shows lines of text beside the pointer, the first one strong. What it says must also be said in a live line. */
  rca.showTip = function (x, y, lines) {
    if (!tip) document.body.append((tip = rca.el("div", { class: "tip", "aria-hidden": "true" })));
    tip.replaceChildren(...lines.filter(Boolean).map((line, n) => rca.el(n ? "div" : "strong", {}, line)));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = x + 14 + box.width > document.documentElement.clientWidth ? x - 14 - box.width : x + 14;
    const top = y + 14 + box.height > window.innerHeight ? y - 14 - box.height : y + 14;
    tip.style.left = Math.max(left, 4) + "px";
    tip.style.top = Math.max(top, 4) + "px";
  };

  rca.hideTip = () => {
    if (tip) tip.hidden = true;
  };

  rca.live = (id) => rca.el("p", { id, class: "live", "aria-live": "polite" });

  rca.button = (text, click, attributes) => rca.el("button", { type: "button", on: { click }, ...attributes }, text);

  /** Buttons of which one is pressed. `options` are [value, text]; `changed(value)` is called after a change. */
  rca.choice = function (label, options, chosen, changed, id) {
    const buttons = options.map(([value, text]) =>
      rca.button(
        text,
        () => {
          buttons.forEach((button, n) => button.setAttribute("aria-pressed", String(options[n][0] === value)));
          changed(value);
        },
        { "aria-pressed": String(value === chosen), "data-value": value },
      ),
    );
    return rca.el(
      "span",
      { role: "group", class: "choice", "aria-label": label, id },
      rca.el("span", { class: "choice-label", "aria-hidden": "true" }, label),
      ...buttons,
    );
  };

  rca.pressed = function (text, on, changed, attributes) {
    const button = rca.button(
      text,
      () => {
        const now = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(now));
        changed(now);
      },
      { "aria-pressed": String(on), ...attributes },
    );
    return button;
  };

  /** A plain table that scrolls by itself where it is wide. `headers` are texts; `numeric` are the columns of numbers. */
  rca.table = function (label, headers, rows, numeric) {
    const isNumber = (column) => numeric.includes(column);
    const body = rows.map((row) =>
      rca.el("tr", {}, ...row.map((cell, n) => rca.el("td", { class: isNumber(n) ? "num" : null }, cell))),
    );
    return rca.el(
      "div",
      { class: "scroll figures", tabindex: 0, role: "region", "aria-label": label },
      rca.el(
        "table",
        {},
        rca.el(
          "thead",
          {},
          rca.el(
            "tr",
            {},
            ...headers.map((text, n) => rca.el("th", { scope: "col", class: isNumber(n) ? "num" : null }, text)),
          ),
        ),
        rca.el("tbody", {}, ...body),
      ),
    );
  };

  /** A part that is made when it is first opened. */
  rca.details = function (summary, make, attributes) {
    const details = rca.el("details", attributes, rca.el("summary", {}, summary));
    const open = () => {
      if (details.open && details.childElementCount === 1) details.append(...[make()].flat());
    };
    details.addEventListener("toggle", open);
    return details;
  };

  /** Copies a text that stands in a node, and says so on the button; selects it where the browser does not allow that. */
  rca.copyText = function (text, node, button) {
    const said = (words) => {
      button.textContent = words;
    };
    const select = () => {
      getSelection().selectAllChildren(node);
      said(document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C");
    };
    if (navigator.clipboard) navigator.clipboard.writeText(text).then(() => said("Copied"), select);
    else select();
  };

  rca.views = [];
})((window.rcaPage = window.rcaPage || {}));
