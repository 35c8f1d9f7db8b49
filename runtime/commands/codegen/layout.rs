//! Lines of at most 80 columns: a document of pieces that may be broken, and how it is laid out.
//!
//! In: a [`Doc`]. Out: text. Invariant: a group stays on one line if it fits there with what
//! follows it up to the next possible break, else every break of its own is taken (Wadler's
//! printer, as Prettier has it, so that generated files look as if Prettier had formatted them).

/// The width of a line, Prettier's own.
const WIDTH: usize = 80;

/// One step of indentation, in columns.
const STEP: usize = 2;

/// A piece of text that can be laid out in more than one way.
#[derive(Clone, Debug)]
pub(super) enum Doc {
    Text(String),
    Concat(Vec<Self>),
    /// One step further right.
    Indent(Box<Self>),
    /// On one line if it fits. `broken`: something in it demands a line of its own.
    Group {
        inner: Box<Self>,
        broken: bool,
    },
    /// A space, or a new line where the group is broken.
    Line,
    /// Nothing, or a new line where the group is broken.
    Softline,
    /// A new line.
    Hardline,
    /// Only where the group is broken.
    IfBroken(Box<Self>),
}

/// A text.
pub(super) fn text(text: impl Into<String>) -> Doc {
    Doc::Text(text.into())
}

/// One after the other.
pub(super) fn concat(parts: impl IntoIterator<Item = Doc>) -> Doc {
    Doc::Concat(parts.into_iter().collect())
}

/// One step further right.
pub(super) fn indent(inner: Doc) -> Doc {
    Doc::Indent(Box::new(inner))
}

/// On one line if it fits.
pub(super) fn group(inner: Doc) -> Doc {
    Doc::Group { broken: is_broken(&inner), inner: Box::new(inner) }
}

/// Only where the group around it is broken.
pub(super) fn if_broken(inner: Doc) -> Doc {
    Doc::IfBroken(Box::new(inner))
}

/// The parts with the same doc between them.
pub(super) fn join(between: &Doc, parts: impl IntoIterator<Item = Doc>) -> Doc {
    let mut all = vec![];
    for part in parts {
        if !all.is_empty() {
            all.push(between.clone());
        }
        all.push(part);
    }
    Doc::Concat(all)
}

fn is_broken(doc: &Doc) -> bool {
    match doc {
        Doc::Hardline => true,
        Doc::Concat(parts) => parts.iter().any(is_broken),
        Doc::Indent(inner) => is_broken(inner),
        Doc::Group { broken, .. } => *broken,
        Doc::Text(_) | Doc::Line | Doc::Softline | Doc::IfBroken(_) => false,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Flat,
    Broken,
}

/// What is still to be printed: indentation, mode, doc.
type Rest<'a> = Vec<(usize, Mode, &'a Doc)>;

/// Lays a doc out.
pub(super) fn print(doc: &Doc) -> String {
    let mut out = String::new();
    let mut column = 0;
    let mut rest: Rest<'_> = vec![(0, Mode::Broken, doc)];
    while let Some((indent, mode, doc)) = rest.pop() {
        match doc {
            Doc::Text(text) => {
                out.push_str(text);
                column += text.chars().count();
            }
            Doc::Concat(parts) => {
                rest.extend(parts.iter().rev().map(|part| (indent, mode, part)));
            }
            Doc::Indent(inner) => rest.push((indent + STEP, mode, inner)),
            Doc::IfBroken(inner) if mode == Mode::Broken => rest.push((indent, mode, inner)),
            Doc::IfBroken(_) => {}
            Doc::Group { inner, broken } => {
                let flat = (indent, Mode::Flat, &**inner);
                let stays = mode == Mode::Flat || fits(flat, &rest, WIDTH.checked_sub(column));
                let mode = if !broken && stays { Mode::Flat } else { Mode::Broken };
                rest.push((indent, mode, inner));
            }
            Doc::Line if mode == Mode::Flat => {
                out.push(' ');
                column += 1;
            }
            Doc::Softline if mode == Mode::Flat => {}
            Doc::Line | Doc::Softline | Doc::Hardline => {
                out.truncate(out.trim_end_matches(' ').len());
                out.push('\n');
                out.push_str(&" ".repeat(indent));
                column = indent;
            }
        }
    }
    out
}

/// Whether `next` fits on the line, with what follows up to the next possible break.
fn fits<'a>(next: (usize, Mode, &'a Doc), rest: &Rest<'a>, room: Option<usize>) -> bool {
    let Some(mut room) = room else { return false };
    let mut following = rest.iter().rev();
    let mut todo = vec![next];
    loop {
        let Some((indent, mode, doc)) = todo.pop() else {
            match following.next() {
                Some(more) => todo.push(*more),
                None => return true,
            }
            continue;
        };
        match doc {
            Doc::Text(text) => match room.checked_sub(text.chars().count()) {
                Some(left) => room = left,
                None => return false,
            },
            Doc::Concat(parts) => {
                todo.extend(parts.iter().rev().map(|part| (indent, mode, part)));
            }
            Doc::Indent(inner) => todo.push((indent, mode, inner)),
            Doc::Group { inner, broken } => {
                todo.push((indent, if *broken { Mode::Broken } else { mode }, inner));
            }
            Doc::IfBroken(inner) if mode == Mode::Broken => todo.push((indent, mode, inner)),
            Doc::IfBroken(_) => {}
            Doc::Hardline => return true,
            Doc::Line | Doc::Softline if mode == Mode::Broken => return true,
            Doc::Softline => {}
            Doc::Line => match room.checked_sub(1) {
                Some(left) => room = left,
                None => return false,
            },
        }
    }
}
