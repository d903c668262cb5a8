() => {
  const everything = [...document.body.querySelectorAll("*")];
  const name = (node) => `${node.tagName} ${node.textContent.trim().slice(0, 40)}`;
  const color = (text) => {
    const parts = (text.match(/[\d.]+/g) || []).map(Number);
    return parts.length === 3 ? [...parts, 1] : parts;
  };
  const over = (top, below) => [0, 1, 2].map((k) => top[k] * top[3] + below[k] * (1 - top[3]));
  const ground = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.unshift(color(getComputedStyle(at).backgroundColor));
    return layers.reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const light = (rgb) => {
    const linear = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const contrast = (a, b) => {
    const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const ownText = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  const shown = (node) => node.checkVisibility() && !node.closest(".skip, .unseen, title");
  const texts = everything.filter((node) => ownText(node) && shown(node));
  const paint = (node) => (node instanceof SVGElement ? getComputedStyle(node).fill : getComputedStyle(node).color);
  const box = (node) => node.getBoundingClientRect();
  const outside = (node) => {
    const frame = node.closest(".scroll");
    const own = box(node);
    if (node instanceof SVGElement) {
      const svg = box(node.closest("svg"));
      return own.left < svg.left - 1 || own.right > svg.right + 1 || own.top < svg.top - 1 || own.bottom > svg.bottom + 1;
    }
    if (frame) return node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).overflow !== "visible";
    return own.left < -1 || own.right > innerWidth + 1;
  };
  const figures = [...document.querySelectorAll("figure > svg")];
  return {
    figures: figures.length,
    unseen: figures.filter((svg) => svg.checkVisibility() && (box(svg).width < 250 || box(svg).height < 150)).map(name),
    clipped: texts.filter(outside).map(name),
    wide: document.documentElement.scrollWidth,
    contrasts: texts.map((node) => [contrast(color(paint(node)).slice(0, 3), ground(node)), name(node)]),
  };
}
