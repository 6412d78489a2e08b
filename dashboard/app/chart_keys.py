"""Marks of charts by keyboard: Tab reaches a chart, the arrows its marks, Enter leads on.

Vega draws a mark that leads on, and leaves it to the mouse. One script a page, for all charts that
come and go: the first mark of each is in the order of tabs, and says what its tooltip says. It also
mends the list of the menu.
"""

from __future__ import annotations

import streamlit as st

_SCRIPT = """
(() => {
  if (window.ratchetChartKeys) return;
  window.ratchetChartKeys = true;
  const leads = (one) => one && one.__data__ && one.__data__.href;
  const said = (item) => item.tooltip && typeof item.tooltip === "object"
    ? Object.entries(item.tooltip).map(([name, text]) => name + " " + text).join(", ")
    : String(item.tooltip || item.href);
  const marks = (svg) => {
    const seen = new Set();
    return [...svg.querySelectorAll("path")].filter(
      (one) => leads(one) && !seen.has(leads(one)) && seen.add(leads(one)));
  };
  const prepare = () => {
    for (const svg of document.querySelectorAll("[data-testid=stVegaLiteChart] svg")) {
      const found = marks(svg);
      const fresh = found.filter((one) => !one.hasAttribute("tabindex"));
      if (!fresh.length) continue;
      for (const one of fresh) {
        one.setAttribute("tabindex", "-1");
        one.setAttribute("role", "link");
        one.setAttribute("aria-label", said(one.__data__));
      }
      if (!found.some((one) => one.getAttribute("tabindex") === "0"))
        found[0].setAttribute("tabindex", "0");
    }
  };
  // Streamlit's menu has headings between the entries of a list, which no list may have.
  const menu = () => {
    for (const part of document.querySelectorAll(
      "[data-testid=stSidebarNav] :is(ul, li):not([role])"))
      part.setAttribute("role", part.tagName === "UL" ? "group" : "none");
  };
  const to = (from, key) => {
    const all = marks(from.closest("svg"));
    const at = all.findIndex((one) => leads(one) === leads(from));
    const last = all.length - 1;
    return all[{ArrowRight: Math.min(at + 1, last), ArrowDown: Math.min(at + 1, last),
      ArrowLeft: Math.max(at - 1, 0), ArrowUp: Math.max(at - 1, 0), Home: 0, End: last}[key]];
  };
  document.addEventListener("keydown", (event) => {
    if (!(event.target instanceof SVGElement) || !leads(event.target)) return;
    const next = to(event.target, event.key);
    if (event.key === "Enter") location.assign(leads(event.target));
    else if (next) {
      event.target.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    } else return;
    event.preventDefault();
  });
  let asked = 0;
  new MutationObserver(() => {
    cancelAnimationFrame(asked);
    asked = requestAnimationFrame(() => { prepare(); menu(); });
  }).observe(document.body, {childList: true, subtree: true});
  prepare();
  menu();
})();
"""


def listen() -> None:
    """Put the script on the page; it is there once, however often the page is drawn."""
    st.html(f"<script>{_SCRIPT}</script>", unsafe_allow_javascript=True)
