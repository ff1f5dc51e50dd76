"use strict";

/* Helpers */

const $ = (selector, within = document) => within.querySelector(selector);
const motionless = matchMedia("(prefers-reduced-motion: reduce)");
const now = () => performance.now();
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** Makes an element of HTML (or, named "svg:..", of SVG) with these attributes; `text` goes in as text. */
function make(name, attributes = {}, parent = null) {
  const node = name.startsWith("svg:") ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") node.textContent = value;
    else node.setAttribute(key, value);
  }
  if (parent) parent.append(node);
  return node;
}

/** Sets text, attribute or class only where they differ: four times a second, nearly nothing does. */
function say(node, text) {
  if (node.said !== text) node.textContent = node.said = text;
}
function put(node, attribute, value) {
  const known = node.known ??= {};
  if (known[attribute] !== value) node.setAttribute(attribute, known[attribute] = value);
}
const glyph = (name, parent) => make("svg:use", { href: `#s-${name}` }, make("svg:svg", { class: "glyph", "aria-hidden": "true" }, parent));

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const count = (value) => grouped.format(value);
const perSecond = (value) => (value > 0 && value < 10 ? value.toFixed(1) : count(value));
const many = (value, one, more = `${one}s`) => `${count(value)} ${value === 1 ? one : more}`;
const digits = (value) => (value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : count(value));

/** A duration as [figure, unit]. */
function microseconds(us) {
  if (us < 1000) return [count(us), "µs"];
  if (us < 1e6) return [digits(us / 1e3), "ms"];
  return milliseconds(us / 1e3);
}
function milliseconds(ms) {
  if (ms < 1000) return [count(ms), "ms"];
  if (ms < 60e3) return [(ms / 1e3).toFixed(1), "s"];
  if (ms < 3600e3) return [`${Math.floor(ms / 60e3)} min ${Math.floor(ms / 1e3) % 60}`, "s"];
  if (ms < 86400e3) return [`${Math.floor(ms / 3600e3)} h ${Math.floor(ms / 60e3) % 60}`, "min"];
  return [`${Math.floor(ms / 86400e3)} d ${Math.floor(ms / 3600e3) % 24}`, "h"];
}
const us = (value) => (value > 0 ? microseconds(value).join(" ") : "–");
const ms = (value) => milliseconds(value).join(" ");

/** What peers call themselves, without the invisible characters that would turn the text around them. */
const plain = (text) => text.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, "\ufffd");

/** At most `length` characters, the end kept, for that is where names differ. */
function shorten(name, length) {
  const letters = [...name];
  if (letters.length <= length) return name;
  const tail = Math.ceil(length * .6);
  return `${letters.slice(0, length - tail - 1).join("")}…${letters.slice(-tail).join("")}`;
}

/** How many characters all names have in common at their beginning and at their end, up to a separator. */
function shared(names) {
  const [first = "", ...rest] = names, least = Math.min(...names.map((name) => name.length), Infinity);
  if (!rest.length) return { begin: 0, end: 0 };
  let begin = 0, end = 0;
  while (begin < least && rest.every((name) => name[begin] === first[begin])) begin++;
  while (end < least - begin && rest.every((name) => name.at(-1 - end) === first.at(-1 - end))) end++;
  const tail = first.slice(first.length - end).search(/[-._/]/);
  return { begin: first.slice(0, begin).search(/[-._/][^-._/]*$/) + 1, end: tail < 0 ? 0 : end - tail };
}

/** A name that fits: where it is too long, without what all names share. */
function brief(name, length, { begin, end }) {
  if (name.length <= length || begin + end === 0) return shorten(name, length);
  return shorten(`…${name.slice(begin, name.length - end)}`, length);
}
