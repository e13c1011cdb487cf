// MACs and parameters of a code: the formula of nasbench_mr/cost.py. Whole numbers below 2^53, so doubles are exact.

const CLASSES = 50;
// Output pixels at an input of 128 x 128: after the first convolution, of the four branches, of the head.
const MACS = { stem: 64 * 64, branches: [32 * 32, 16 * 16, 8 * 8, 4 * 4], head: 4 * 4 };
const PARAMS = { stem: 1, branches: [1, 1, 1, 1], head: 1 };

export const macs = (space, code) => total(space, code, MACS);
export const params = (space, code) => total(space, code, PARAMS);

/** A convolution and its batch norm. */
const conv = (from, to, k, area) => (k * k * from + 2) * to * area;

function total(space, v, pixels) {
  const area = pixels.branches;
  const [i1, i2] = space.stem.map((k) => v[k]);
  let sum = conv(3, i1, 3, pixels.stem) + conv(i1, i2, 3, area[0]);
  let previous = [i2];
  for (const stage of space.stages) {
    const b = v[stage.b];
    const c = stage.c.map((k) => v[k]);
    sum += fusion(previous, c, area) + (b - 1) * fusion(c, c, area);
    stage.n.forEach((k, branch) => {
      sum += b * v[k] * 2 * conv(c[branch], c[branch], 3, area[branch]);
    });
    previous = c;
  }
  const o1 = v[space.head];
  const wide = previous.reduce((a, b) => a + b, 0);
  return sum + conv(wide, o1, 1, pixels.head) + (o1 + 1) * CLASSES;
}

/** From branches with channels `a` to branches with channels `c`; only neighbours are fused. */
function fusion(a, c, area) {
  let sum = 0;
  c.forEach((to, i) => {
    if (i >= a.length) {
      sum += conv(c[i - 1], to, 3, area[i]);
      return;
    }
    sum += conv(a[i], to, 3, area[i]);
    if (i > 0) sum += conv(a[i - 1], to, 3, area[i]);
    if (i + 1 < a.length) sum += conv(a[i + 1], to, 1, area[i + 1]);
  });
  return sum;
}
