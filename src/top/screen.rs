//! The live picture: the alternate screen of a terminal, redrawn after each scrape.

use std::io::{Stdout, Write, stdout};
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute, queue, terminal};

use super::view::{self, Line};
use super::{FetchError, Scrape, Target, scrape};

/// Redraws until q, Escape or Ctrl-C. A server that goes away is waited for.
pub(super) fn run(target: &Target, interval: Duration, mut before: Scrape) -> Result<(), FetchError> {
    // A terminal that cannot be set up, or goes away, has nobody before it.
    let Ok(mut screen) = Screen::enter() else { return Ok(()) };
    let mut lines = vec![Line::Text(format!("{target}: measuring for {} s; q ends it", interval.as_secs_f64()))];
    loop {
        let next = Instant::now() + interval;
        loop {
            let left = next.saturating_duration_since(Instant::now());
            match screen.draw(&lines).and_then(|()| wait(left)) {
                Ok(Waited::Resized) => {}
                Ok(Waited::Over) => break,
                Ok(Waited::Enough) | Err(_) => return Ok(()),
            }
        }
        match scrape(target) {
            Ok(now) => {
                lines = view::lines(&before, &now);
                before = now;
            }
            Err(error) => lines = vec![Line::Text(error.to_string()), Line::Text("trying again; q ends it".to_owned())],
        }
    }
}

/// How a wait for the user ended.
enum Waited {
    Over,
    Resized,
    Enough,
}

fn wait(left: Duration) -> std::io::Result<Waited> {
    let until = Instant::now() + left;
    while event::poll(until.saturating_duration_since(Instant::now()))? {
        match event::read()? {
            Event::Key(key) if ends(&key) => return Ok(Waited::Enough),
            Event::Resize(..) => return Ok(Waited::Resized),
            _ => {}
        }
    }
    Ok(Waited::Over)
}

fn ends(key: &KeyEvent) -> bool {
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

/// The terminal in our hands; given back when dropped.
struct Screen(Stdout);

impl Screen {
    fn enter() -> std::io::Result<Self> {
        terminal::enable_raw_mode()?;
        let mut screen = Self(stdout());
        execute!(screen.0, EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }

    fn draw(&mut self, lines: &[Line]) -> std::io::Result<()> {
        let (columns, rows) = terminal::size()?;
        queue!(self.0, cursor::MoveTo(0, 0))?;
        for (row, line) in lines.iter().take(usize::from(rows)).enumerate() {
            let text: String = line.text().chars().take(usize::from(columns)).collect();
            let attribute = if matches!(line, Line::Heading(_)) { Attribute::Reverse } else { Attribute::Reset };
            queue!(self.0, cursor::MoveTo(0, row as u16), SetAttribute(attribute), Print(text))?;
            queue!(self.0, SetAttribute(Attribute::Reset), Clear(ClearType::UntilNewLine))?;
        }
        if lines.len() < usize::from(rows) {
            queue!(self.0, cursor::MoveTo(0, lines.len() as u16), Clear(ClearType::FromCursorDown))?;
        }
        self.0.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to be told when this fails.
        let _ = execute!(self.0, cursor::Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}
