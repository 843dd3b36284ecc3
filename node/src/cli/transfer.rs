//! export and import: a space as a file, in the format of [`foreshore::peer::ArchiveWriter`].
//!
//! A page is taken in with the checks that a peer's bytes get, so a damaged or forged file can bring nothing that its authors
//! did not sign. A file that was cut is noticed at its end; the whole pages before the cut are in, and importing the whole
//! file later completes them.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use foreshore::id::SpaceId;
use foreshore::peer::{ArchiveError, ArchiveItem, ArchiveReader, ArchiveWriter, MAX_PAGE};

use super::{Context, item};
use crate::failure::{Code, Failure};
use crate::output::size;
use crate::progress::Progress;
use crate::request::{Answer, Page64, Request, SpaceLine, Transferred};
use crate::service::Opening;

// In base64 a page fits a line of the control socket.
const _: () = assert!(MAX_PAGE / 3 * 4 < crate::control::MAX_LINE);

pub(super) async fn export(context: &Context, file: Option<PathBuf>) -> Result<(), Failure> {
    let spaces: Vec<SpaceLine> = context.answer(Request::Spaces, Opening::Existing).await?;
    let wanted = &context.config.space.value;
    let only = spaces.len() == 1 && context.space().is_empty();
    let space = spaces
        .into_iter()
        .find(|space| only || space.name == *wanted || space.id == *wanted)
        .ok_or_else(|| Failure::new(Code::NotFound, format_args!("this store has no space {wanted:?}")))?;
    let mut sink = Sink::open(file.as_deref(), &space.id)?;
    let progress = Progress::start("exporting");
    let (mut pages, mut bytes) = (0, 0);
    let mut done: Transferred = context
        .items(Request::Export { space: space.id }, |line| {
            let page = BASE64.decode(item::<Page64>(line)?.page).map_err(|e| Failure::new(Code::Failed, e))?;
            sink.page(&page)?;
            (pages, bytes) = (pages + 1, bytes + page.len() as u64);
            progress.at(pages, "pages", bytes);
            Ok(())
        })
        .await?;
    drop(progress);
    sink.finish()?;
    (done.pages, done.bytes) = (pages, bytes);
    match file_of(file.as_deref()) {
        Some(file) => context.out.value(&done, |d| format!("{} exported to {}", size(d.bytes), file.display())),
        None => Ok(()),
    }
}

pub(super) async fn import(context: &Context, file: Option<PathBuf>) -> Result<(), Failure> {
    let mut source = Source::open(file.as_deref())?;
    let space = source.header()?;
    let mut asked = context.ask(Request::Import { space }, Opening::Existing).await?;
    let progress = Progress::start("importing");
    let (mut pages, mut bytes) = (0, 0);
    let fed = loop {
        match source.page() {
            Ok(None) => break Ok(()),
            Ok(Some(page)) => {
                let length = page.len() as u64;
                if !asked.call.page(page).await {
                    break Ok(());
                }
                (pages, bytes) = (pages + 1, bytes + length);
                progress.at(pages, "pages", bytes);
            }
            Err(failure) => break Err(failure),
        }
    };
    asked.call.end().await;
    let answer = loop {
        match asked.call.next().await {
            Answer::Item(_) => {}
            Answer::Done(value) => break item::<Transferred>(value),
            Answer::Failed(failure) => break Err(failure),
        }
    };
    drop(progress);
    asked.close().await;
    let mut done = answer?;
    fed?;
    (done.pages, done.bytes) = (pages, bytes);
    context.out.value(&done, |d| {
        let refused = if d.refused > 0 { format!(", {} refused", d.refused) } else { String::new() };
        format!("{} imported, {} new changes{refused}", size(d.bytes), d.changes)
    })
}

fn file_of(file: Option<&Path>) -> Option<&Path> {
    file.filter(|file| file.as_os_str() != "-")
}

fn named(file: Option<&Path>, error: io::Error) -> Failure {
    match file_of(file) {
        Some(file) => Failure::new(Code::Failed, format_args!("{}: {error}", file.display())),
        None => error.into(),
    }
}

/// Where an export goes. A file appears under its name only once it is whole.
struct Sink {
    out: Box<dyn Write>,
    archive: ArchiveWriter,
    file: Option<(File, PathBuf, PathBuf)>,
}

impl Sink {
    fn open(file: Option<&Path>, space: &str) -> Result<Self, Failure> {
        let space = SpaceId::from_bech32(space).map_err(|error| Failure::new(Code::Failed, error))?;
        let (archive, head) = ArchiveWriter::begin(space);
        let mut sink = match file_of(file) {
            None if io::IsTerminal::is_terminal(&io::stdout()) => {
                return Err(Failure::invalid("file", "an export is binary, and the output is a terminal")
                    .hint("name a file, or redirect the output"));
            }
            None => Self { out: Box::new(io::stdout()), archive, file: None },
            Some(path) => {
                let mut part = path.as_os_str().to_owned();
                part.push(".part");
                let part = PathBuf::from(part);
                let mut options = OpenOptions::new();
                std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create(true).truncate(true), 0o600);
                let out = options.open(&part).map_err(|e| named(Some(&part), e))?;
                let copy = out.try_clone().map_err(|e| named(Some(&part), e))?;
                Self { out: Box::new(BufWriter::new(out)), archive, file: Some((copy, part, path.to_owned())) }
            }
        };
        sink.write(&head)?;
        Ok(sink)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(|e| named(self.file.as_ref().map(|(_, part, _)| part.as_path()), e))
    }

    fn page(&mut self, page: &[u8]) -> Result<(), Failure> {
        let framed = self.archive.page(page).map_err(|error| Failure::new(Code::Failed, error))?;
        self.write(&framed)
    }

    fn finish(mut self) -> Result<(), Failure> {
        let end = self.archive.finish();
        self.write(&end)?;
        let part = self.file.as_ref().map(|(_, part, _)| part.clone());
        self.complete().map_err(|e| named(part.as_deref(), e))
    }

    fn complete(&mut self) -> io::Result<()> {
        self.out.flush()?;
        if let Some((file, part, path)) = &self.file {
            file.sync_all()?;
            std::fs::rename(part, path)?;
        }
        self.file = None;
        Ok(())
    }
}

impl Drop for Sink {
    /// What did not get whole is of no use.
    fn drop(&mut self) {
        if let Some((_, part, _)) = self.file.take() {
            let _ = std::fs::remove_file(part);
        }
    }
}

/// Where an import comes from.
struct Source {
    input: Box<dyn Read>,
    archive: ArchiveReader,
}

/// How much is read at a time.
const PIECE: usize = 64 << 10;

impl Source {
    fn open(file: Option<&Path>) -> Result<Self, Failure> {
        let input: Box<dyn Read> = match file_of(file) {
            Some(path) => Box::new(File::open(path).map_err(|e| {
                let code = if e.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::Failed };
                Failure::new(code, format_args!("{}: {e}", path.display()))
            })?),
            None => Box::new(io::stdin()),
        };
        Ok(Self { input, archive: ArchiveReader::default() })
    }

    /// The space that the file names.
    fn header(&mut self) -> Result<String, Failure> {
        match self.item()? {
            Some(ArchiveItem::Space(space)) => Ok(space),
            _ => Err(refused(ArchiveError::NotAnExport)),
        }
    }

    /// The next page; `None` behind the last.
    fn page(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match self.item()? {
            Some(ArchiveItem::Page(page)) => Ok(Some(page)),
            _ => Ok(None),
        }
    }

    fn item(&mut self) -> Result<Option<ArchiveItem>, Failure> {
        let mut piece = vec![0; PIECE];
        loop {
            if let Some(item) = self.archive.next_item().map_err(refused)? {
                return Ok(Some(item));
            }
            match self.input.read(&mut piece)? {
                0 => return self.archive.close().map(|()| None).map_err(refused),
                read => self.archive.feed(&piece[..read]),
            }
        }
    }
}

fn refused(error: ArchiveError) -> Failure {
    match error {
        ArchiveError::Cut => Failure::new(Code::Damaged, error)
            .hint("what came before the end was taken in; importing the whole file adds the rest"),
        ArchiveError::Damaged | ArchiveError::Trailing => Failure::new(Code::Damaged, error),
        error => Failure::invalid("file", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> String {
        SpaceId([7; 32]).to_bech32()
    }

    fn exported(pages: &[&[u8]]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let mut sink = Sink::open(Some(&path), &space()).unwrap();
        pages.iter().for_each(|page| sink.page(page).unwrap());
        assert!(!path.exists(), "an unfinished export has no name");
        sink.finish().unwrap();
        (directory, path)
    }

    fn import(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
        let mut source = Source::open(Some(path)).unwrap();
        if source.header()? != space() {
            return Err(refused(ArchiveError::NotAnExport));
        }
        let mut pages = Vec::new();
        while let Some(page) = source.page()? {
            pages.push(page);
        }
        Ok(pages)
    }

    #[test]
    fn what_was_exported_is_imported() {
        let (_directory, path) = exported(&[b"one", &[7; 100_000]]);
        assert_eq!(import(&path).unwrap(), [b"one".to_vec(), vec![7; 100_000]]);
    }

    #[test]
    fn a_cut_or_changed_file_is_noticed() {
        let (_directory, path) = exported(&[b"one", b"two"]);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(import(&path).is_err(), "cut at {cut}");
            let mut changed = whole.clone();
            changed[cut] ^= 0x80;
            std::fs::write(&path, changed).unwrap();
            assert!(import(&path).is_err(), "changed at {cut}");
        }
    }
}
