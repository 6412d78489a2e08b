// Marks the words in which two texts differ: what one has and the other lacks, in order.

const LONGEST = 4000;

/** Words with the space before them; Chinese and Japanese characters each by itself. */
const wordsOf = (text) =>
  text.match(/\s*[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]|\s*[\p{L}\p{N}_]+|\s*[^\p{L}\p{N}\s]|\s+/gu) ?? [];

/** Which words of `a` and of `b` are in no longest common subsequence of the two. */
function different(a, b) {
  const table = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      table[i][j] = a[i] === b[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
  const own = [new Set(a.keys()), new Set(b.keys())];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i] === b[j]) {
      own[0].delete(i++);
      own[1].delete(j++);
    } else if (table[i + 1][j] >= table[i][j + 1]) i++;
    else j++;
  }
  return own;
}

function paint(place, found, own) {
  const nodes = found.map((word, n) => {
    if (!own.has(n)) return document.createTextNode(word);
    const mark = document.createElement("mark");
    mark.textContent = word;
    return mark;
  });
  place.replaceChildren(...nodes);
}

/** Marks both places' words, which stay text; texts too long to compare at once stay as they are. */
export function markDifferences(left, right) {
  const [a, b] = [wordsOf(left.textContent), wordsOf(right.textContent)];
  if (a.length > LONGEST || b.length > LONGEST) return;
  const trimmed = [a, b].map((words) => words.map((word) => word.trim()));
  const own = different(...trimmed);
  paint(left, a, own[0]);
  paint(right, b, own[1]);
}
