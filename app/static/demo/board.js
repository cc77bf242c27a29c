/**
 * The drawing pad: for mouse, pen and finger by pointer events, and for the keyboard.
 *
 * Strokes are kept as points, so that they can be undone. They are drawn twice: on the screen in the
 * page's colours, and dark on white for the network.
 */

const SENT = 168; // side of the sent picture in pixels: 6 times the network's, and quick to encode
const PEN = 0.062; // width of a stroke as a share of the side
const STEP = 0.03; // one step of the keyboard's pen as a share of the side

export class Pad {
  /** Call `changed(ended)` for each part of a stroke; `ended` is true when the pen is lifted. */
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.changed = changed;
    this.strokes = [];
    this.pen = null; // the keyboard's pen: its place, and whether it draws
    this.drawing = false;
    this.sent = document.createElement("canvas");
    this.sent.width = this.sent.height = SENT;
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.#end(event));
    }
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#putPenAway());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#redraw());
    this.#redraw();
  }

  get empty() {
    return this.strokes.length === 0;
  }

  undo() {
    this.strokes.pop();
    this.#redraw();
    this.changed(true);
  }

  clear() {
    this.strokes = [];
    this.#redraw();
    this.changed(true);
  }

  /** Return the drawing as a PNG, dark on white. */
  picture() {
    return new Promise((resolve) => this.sent.toBlob(resolve, "image/png"));
  }

  #begin(event) {
    if (event.button !== 0 || this.drawing) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.drawing = true;
    this.#start(this.#place(event));
    this.changed(false);
  }

  #move(event) {
    if (!this.drawing) return;
    // The browser collects the points of a fast pen between two frames.
    const points = event.getCoalescedEvents?.() ?? [];
    for (const point of points.length ? points : [event]) this.#extend(this.#place(point));
    this.changed(false);
  }

  #end() {
    if (!this.drawing) return;
    this.drawing = false;
    this.changed(true);
  }

  #key(event) {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in arrows) {
      const [x, y] = arrows[event.key];
      const from = this.pen ?? { x: 0.5, y: 0.25, down: false };
      const within = (value) => Math.min(0.97, Math.max(0.03, value));
      this.pen = { ...from, x: within(from.x + x * STEP), y: within(from.y + y * STEP) };
      if (this.pen.down) {
        this.#extend(this.pen);
        this.changed(true);
      }
      this.#redraw();
    } else if (event.key === " ") {
      const at = this.pen ?? { x: 0.5, y: 0.25, down: false };
      this.pen = { ...at, down: !at.down };
      if (this.pen.down) this.#start(this.pen);
      this.#redraw();
      this.changed(true);
    } else if (event.key === "Backspace" || (event.key === "z" && (event.ctrlKey || event.metaKey))) {
      this.undo();
    } else if (event.key === "Delete") {
      this.clear();
    } else if (event.key === "Escape") {
      this.#putPenAway();
    } else {
      return;
    }
    event.preventDefault();
  }

  #putPenAway() {
    this.pen = null;
    this.#redraw();
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  }

  #start(point) {
    this.strokes.push([point]);
    this.#draw([point, point]);
  }

  #extend(point) {
    const stroke = this.strokes.at(-1);
    this.#draw([stroke.at(-1), point]);
    stroke.push(point);
  }

  #redraw() {
    const paper = this.canvas.getContext("2d");
    paper.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const sent = this.sent.getContext("2d");
    sent.fillStyle = "#fff";
    sent.fillRect(0, 0, SENT, SENT);
    this.ink = getComputedStyle(this.canvas).color;
    for (const stroke of this.strokes) this.#draw(stroke.length > 1 ? stroke : [stroke[0], stroke[0]]);
    if (this.pen) this.#drawPen(paper);
  }

  /** Draw a line through points on both canvases. */
  #draw(points) {
    for (const [canvas, ink] of [[this.canvas, this.ink], [this.sent, "#000"]]) {
      const paper = canvas.getContext("2d");
      const side = canvas.width;
      paper.lineWidth = PEN * side;
      paper.lineCap = paper.lineJoin = "round";
      paper.strokeStyle = ink;
      paper.beginPath();
      paper.moveTo(points[0].x * side, points[0].y * side);
      for (const point of points.slice(1)) paper.lineTo(point.x * side, point.y * side);
      paper.stroke();
    }
  }

  #drawPen(paper) {
    const side = this.canvas.width;
    paper.lineWidth = 3;
    paper.strokeStyle = paper.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
    paper.beginPath();
    paper.arc(this.pen.x * side, this.pen.y * side, (PEN * side) / 2, 0, 2 * Math.PI);
    if (this.pen.down) paper.fill();
    paper.stroke();
  }
}
