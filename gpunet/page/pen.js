// The sheet to draw on, with mouse, finger, pen or keys. Strokes are arrays of points [x, y, width of the pen], as
// fractions of the sheet's side.

const PEN = 0.075; // width, at a pressure of one half
const STEP = 1 / 28; // of the arrow keys
const NEAREST = 0.004; // points closer than this are left out

class Sheet {
  // changed: called after every change of the strokes; told: called with what a screen reader should say.
  constructor(canvas, changed, told) {
    Object.assign(this, { canvas, changed, told, strokes: [], pointer: null, cursor: [0.5, 0.5], penDown: false });
    this.ghost = null; // an image to show faintly under the strokes: {values, width, height}, 0 to 1
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.lift(event));
    canvas.addEventListener("keydown", (event) => this.key(event));
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => this.paint());
    canvas.addEventListener("blur", () => { this.penDown = false; });
  }

  press(event) {
    if (this.pointer !== null || event.button > 0) return; // another finger, or the palm
    this.pointer = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.penDown = false;
    this.begin(this.pointOf(event));
  }

  move(event) {
    if (event.pointerId !== this.pointer) return;
    const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    for (const each of events.length ? events : [event]) this.extend(this.pointOf(each));
  }

  lift(event) {
    if (event.pointerId === this.pointer) this.pointer = null;
  }

  pointOf(event) {
    const frame = this.canvas.getBoundingClientRect();
    const pressure = event.pointerType === "pen" && event.pressure > 0 ? event.pressure : 0.5; // others report no real pressure
    return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height, PEN * (0.5 + pressure)];
  }

  begin(point) {
    if (this.ghost) this.strokes = [];
    this.ghost = null;
    this.strokes.push([point]);
    this.cursor = point.slice(0, 2);
    this.changed();
  }

  extend(point) {
    const stroke = this.strokes.at(-1), last = stroke.at(-1);
    if (Math.hypot(point[0] - last[0], point[1] - last[1]) < NEAREST) return;
    stroke.push(point);
    this.cursor = point.slice(0, 2);
    this.changed();
  }

  undo() {
    if (this.ghost) this.ghost = null; // back to the drawing
    else this.strokes.pop();
    this.penDown = false;
    this.changed();
  }

  clear() {
    this.ghost = null;
    this.strokes = [];
    this.penDown = false;
    this.changed();
  }

  key(event) {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const way = ways[event.key];
    if (event.altKey || ((event.ctrlKey || event.metaKey) && event.key !== "z")) return;
    if (way) {
      this.cursor = this.cursor.map((x, axis) => Math.min(1, Math.max(0, x + STEP * way[axis])));
      if (this.penDown) this.extend([...this.cursor, PEN]);
      else this.paint();
    } else if (event.key === " " || event.key === "Enter") {
      this.penDown = !this.penDown;
      if (this.penDown) this.begin([...this.cursor, PEN]);
      else this.paint();
      this.told(this.penDown ? "pen down" : "pen up");
    } else if (event.key === "Backspace" || event.key === "z") {
      this.undo();
      this.told("undone");
    } else if (event.key === "Delete" || event.key === "Escape") {
      this.clear();
      this.told("cleared");
    } else {
      return;
    }
    event.preventDefault();
  }

  paint() {
    const { context, width } = prepared(this.canvas, 1);
    const { ink, accent } = theme();
    if (this.ghost) this.paintGhost(context, width, ink);
    context.strokeStyle = context.fillStyle = css(ink);
    context.lineCap = context.lineJoin = "round";
    for (const stroke of this.strokes) {
      if (this.ghost) break;
      context.beginPath();
      context.arc(width * stroke[0][0], width * stroke[0][1], (width * stroke[0][2]) / 2, 0, 2 * Math.PI);
      context.fill();
      for (let i = 1; i < stroke.length; i++) {
        const [from, to] = [stroke[i - 1], stroke[i]];
        context.lineWidth = (width * (from[2] + to[2])) / 2;
        context.beginPath();
        context.moveTo(width * from[0], width * from[1]);
        context.lineTo(width * to[0], width * to[1]);
        context.stroke();
      }
    }
    if (document.activeElement === this.canvas && this.pointer === null) {
      context.beginPath();
      context.arc(width * this.cursor[0], width * this.cursor[1], (width * PEN) / 2, 0, 2 * Math.PI);
      context.strokeStyle = css(accent);
      context.lineWidth = this.penDown ? 4 : 1.5;
      context.stroke();
    }
  }

  paintGhost(context, width, ink) {
    const { values, width: columns, height: rows } = this.ghost, side = width / Math.max(columns, rows);
    values.forEach((value, i) => {
      context.fillStyle = `rgb(${ink.join(" ")} / ${0.35 * value})`;
      context.fillRect((i % columns) * side, Math.floor(i / columns) * side, side, side);
    });
  }
}
