//! Treemaps as SVG: areas by bytes, in nearly square cells (Bruls, Huizing and
//! van Wijk, "Squarified Treemaps", 2000).

use std::fmt::Write;

use super::html;

/// A cell, or a frame with cells in it.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// What is written in it.
    pub(super) label: String,
    /// What is shown of it on pointing, before its size.
    pub(super) title: String,
    /// What the table is searched for on a click.
    pub(super) find: String,
    /// Its area; of a frame that of what is in it.
    pub(super) bytes: u64,
    pub(super) children: Vec<Node>,
}

/// A rectangle in units of the drawing.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rect {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// Width of a letter in labels, and height of a line.
const LETTER: f64 = 6.6;
const LINE: f64 = 15.0;
/// Cells smaller than this are drawn as one.
const MIN_AREA: f64 = 24.0;
/// Number of hues in the style sheet.
const HUES: usize = 8;

/// Draws `root`'s children on `width` by `height`.
pub(super) fn draw(root: &Node, class: &str, width: u32, height: u32) -> String {
    let mut svg = format!(
        "<svg class=\"map {class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n",
        html::escape(&root.title)
    );
    let rect = Rect { x: 0.0, y: 0.0, width: width.into(), height: height.into() };
    fill(&mut svg, root, rect, Hue { of: 0, is_own: false }, root.bytes);
    svg.push_str("</svg>\n");
    svg
}

/// The hue of a frame, and whether all that is in it has it too.
#[derive(Clone, Copy)]
struct Hue {
    of: usize,
    is_own: bool,
}

fn fill(svg: &mut String, parent: &Node, rect: Rect, hue: Hue, total: u64) {
    let scale = rect.width * rect.height / (parent.bytes.max(1) as f64);
    let mut nodes: Vec<&Node> = parent.children.iter().filter(|node| node.bytes > 0).collect();
    nodes.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.title.cmp(&b.title)));
    let large = |node: &&&Node| node.bytes as f64 * scale >= MIN_AREA;
    // One small one alone is no crowd.
    let shown = match nodes.iter().take_while(large).count() {
        count if nodes.len() - count == 1 => nodes.len(),
        count => count,
    };
    let (shown, small) = nodes.split_at(shown);
    let crowd = Node {
        label: format!("{} smaller", small.len()),
        title: format!("{} smaller in {}", small.len(), parent.title),
        find: parent.find.clone(),
        bytes: small.iter().map(|node| node.bytes).sum(),
        children: Vec::new(),
    };
    let all: Vec<&Node> =
        shown.iter().copied().chain((!small.is_empty()).then_some(&crowd)).collect();
    let bytes: Vec<u64> = all.iter().map(|node| node.bytes).collect();
    for (index, (node, place)) in all.iter().zip(squarify(&bytes, rect)).enumerate() {
        let of = if hue.is_own { hue.of } else { (hue.of + index) % HUES };
        if node.children.is_empty() {
            cell(svg, node, place, of);
        } else {
            let inner = frame(svg, node, place, of);
            // What is most of the map is told apart further in.
            let is_own = node.bytes < total / 3;
            fill(svg, node, inner, Hue { of, is_own }, total);
        }
    }
}

fn cell(svg: &mut String, node: &Node, place: Rect, hue: usize) {
    open(svg, "cell", node, place, hue);
    label(svg, &node.label, place, 0.0);
    if place.height > 2.2 * LINE {
        label(svg, &html::size(node.bytes), place, LINE);
    }
    svg.push_str("</g>\n");
}

/// Draws a frame and returns what is left inside it.
fn frame(svg: &mut String, node: &Node, place: Rect, hue: usize) -> Rect {
    open(svg, "frame", node, place, hue);
    let head = if place.width > 60.0 && place.height > 44.0 { LINE + 2.0 } else { 0.0 };
    if head > 0.0 {
        label(svg, &node.label, place, -1.0);
    }
    svg.push_str("</g>\n");
    let gap = if place.width > 24.0 && place.height > 24.0 { 2.0 } else { 0.0 };
    Rect {
        x: place.x + gap,
        y: place.y + head.max(gap),
        width: (place.width - 2.0 * gap).max(0.0),
        height: (place.height - head.max(gap) - gap).max(0.0),
    }
}

fn open(svg: &mut String, class: &str, node: &Node, place: Rect, hue: usize) {
    let Rect { x, y, width, height } = place;
    let _ = write!(
        svg,
        "<g class=\"{class} k{hue}\" data-find=\"{}\"><title>{}: {}</title>\
         <rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>",
        html::escape(&node.find),
        html::escape(&node.title),
        html::size(node.bytes)
    );
}

/// Writes as much of `text` as fits, if that says anything.
fn label(svg: &mut String, text: &str, place: Rect, down: f64) {
    let room = ((place.width - 8.0) / LETTER).floor();
    let length = text.chars().count();
    if place.height < LINE + 2.0 || room < 3.0 {
        return;
    }
    let room = room as usize;
    let shown = if length <= room {
        text.to_owned()
    } else {
        text.chars().take(room - 1).chain(['…']).collect()
    };
    let (x, y) = (place.x + 5.0, place.y + 13.0 + down);
    let class = if down > 0.0 { " class=\"small\"" } else { "" };
    let _ = write!(svg, "<text{class} x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", html::escape(&shown));
}

/// Places values, the largest first, so that their areas are in proportion: rows
/// along the shorter side, each as long as its worst cell gets squarer by it.
fn squarify(values: &[u64], rect: Rect) -> Vec<Rect> {
    let total: f64 = values.iter().map(|&value| value as f64).sum();
    let scale = if total > 0.0 { rect.width * rect.height / total } else { 0.0 };
    let areas: Vec<f64> = values.iter().map(|&value| value as f64 * scale).collect();
    let mut places = Vec::with_capacity(areas.len());
    let (mut rest, mut free) = (areas.as_slice(), rect);
    while !rest.is_empty() {
        let side = free.width.min(free.height);
        let mut count = 1;
        while count < rest.len() && worst(&rest[..=count], side) <= worst(&rest[..count], side) {
            count += 1;
        }
        let (row, after) = rest.split_at(count);
        free = lay(row, free, &mut places);
        rest = after;
    }
    places
}

/// The ratio of the sides of the least square cell of a row.
fn worst(row: &[f64], side: f64) -> f64 {
    let sum: f64 = row.iter().sum();
    let ratio = |area: f64| {
        let one = side * side * area / (sum * sum);
        one.max(1.0 / one)
    };
    row.iter().copied().map(ratio).fold(0.0, f64::max)
}

/// Lays a row along the shorter side of `free` and returns what is left of it.
fn lay(row: &[f64], free: Rect, places: &mut Vec<Rect>) -> Rect {
    let sum: f64 = row.iter().sum();
    let upright = free.width >= free.height;
    let side = if upright { free.height } else { free.width };
    let depth = if side > 0.0 { sum / side } else { 0.0 };
    let mut along = 0.0;
    for area in row {
        let length = if depth > 0.0 { area / depth } else { 0.0 };
        places.push(if upright {
            Rect { x: free.x, y: free.y + along, width: depth, height: length }
        } else {
            Rect { x: free.x + along, y: free.y, width: length, height: depth }
        });
        along += length;
    }
    if upright {
        Rect { x: free.x + depth, width: (free.width - depth).max(0.0), ..free }
    } else {
        Rect { y: free.y + depth, height: (free.height - depth).max(0.0), ..free }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn areas_are_in_proportion_and_inside(
            mut values in proptest::collection::vec(1_u64..1_000_000, 1..60)
        ) {
            values.sort_by(|a, b| b.cmp(a));
            let rect = Rect { x: 3.0, y: 5.0, width: 640.0, height: 400.0 };
            let places = squarify(&values, rect);
            prop_assert_eq!(places.len(), values.len());
            let total: u64 = values.iter().sum();
            for (value, place) in values.iter().zip(&places) {
                let expected = *value as f64 / total as f64 * 640.0 * 400.0;
                prop_assert!((place.width * place.height - expected).abs() < 0.01);
                prop_assert!(place.x > 2.99 && place.x + place.width < 643.01);
                prop_assert!(place.y > 4.99 && place.y + place.height < 405.01);
            }
            for (index, a) in places.iter().enumerate() {
                for b in &places[index + 1..] {
                    let apart = |a0: f64, a1: f64, b0: f64, b1: f64| a1 <= b0 + 0.01 || b1 <= a0 + 0.01;
                    prop_assert!(
                        apart(a.x, a.x + a.width, b.x, b.x + b.width)
                            || apart(a.y, a.y + a.height, b.y, b.y + b.height)
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_too_small_to_see_is_drawn_together() {
        let small = (0..100).map(|n| Node { bytes: 1, title: format!("s{n}"), ..Node::default() });
        let large = Node { bytes: 1_000_000, title: "large".to_owned(), ..Node::default() };
        let root =
            Node { bytes: 1_000_100, children: small.chain([large]).collect(), ..Node::default() };
        let svg = draw(&root, "", 600, 400);
        assert_eq!(svg.matches("class=\"cell").count(), 2);
        assert!(svg.contains("100 smaller"));
    }
}
