//! The table of settings: the single source of what can be set, under which names, with which
//! defaults. The loader, `posthaste doctor` and `docs/configuration.md` are all made from it.
//!
//! Here are the types, and a file for each chapter of the table: [`UsedBy`] names them.

mod api;
mod client;
mod everything;
mod worker;

/// Which program reads the configuration; some defaults differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// `posthaste up`: everything in one process, for trying out and for small installations.
    Up,
    /// `posthaste api`: the HTTP API alone.
    Api,
    /// `posthaste worker`: a delivery worker alone.
    Worker,
    /// Every command that is not a service.
    Tool,
}

/// What a value looks like. Said in the reference, and in errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text; the setting's help says what it holds.
    Text,
    /// A path of the file system.
    Path,
    /// `host:port` with a literal address.
    Address,
    /// A URL, whose password is not shown.
    Url,
    /// `10s`, `5d`, `500ms`; bounds in seconds.
    Duration {
        /// The shortest duration that is accepted, in seconds.
        min_seconds: u64,
        /// The longest duration that is accepted, in seconds.
        max_seconds: u64,
    },
    /// A whole number of bytes, or `1MiB`.
    Bytes {
        /// The smallest size that is accepted.
        min: u64,
        /// The largest size that is accepted.
        max: u64,
    },
    /// A whole number within bounds.
    Integer {
        /// The smallest number that is accepted.
        min: u64,
        /// The largest number that is accepted.
        max: u64,
    },
    /// `true` or `false`, and nothing else.
    Bool,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A part of a whole: 0 to 1.
    Ratio,
}

/// Who reads a setting: a chapter of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsedBy {
    /// Every process that opens the store or the broker.
    Everything,
    /// `posthaste api` and `up`.
    Api,
    /// `posthaste worker` and `up`.
    Worker,
    /// The commands that speak to the HTTP API.
    Client,
}

/// One setting: a row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in `posthaste.toml`.
    pub key: &'static str,
    /// Its environment variable; with `_FILE` behind it, one that names a file with the value.
    pub env: &'static str,
    /// Another variable that counts when `env` is not set.
    pub other_env: Option<&'static str>,
    /// What a value looks like.
    pub kind: Kind,
    /// The default; `None` means that it is unset or is worked out from other settings (`help` says
    /// how).
    pub default: Option<&'static str>,
    /// Defaults of single programs that differ.
    pub exceptions: &'static [(Profile, &'static str)],
    /// An environment variable that is set and empty is a value, and not the same as one that is
    /// not set.
    pub empty_counts: bool,
    /// Whether the value is redacted wherever it is shown; of a URL, only the password is.
    pub secret: bool,
    /// Who reads the setting: its chapter in the reference.
    pub used_by: UsedBy,
    /// What it does, in sentences.
    pub help: &'static str,
}

impl Setting {
    const fn new(
        key: &'static str,
        env: &'static str,
        kind: Kind,
        used_by: UsedBy,
        help: &'static str,
    ) -> Self {
        Self {
            key,
            env,
            other_env: None,
            kind,
            default: None,
            exceptions: &[],
            empty_counts: false,
            secret: false,
            used_by,
            help,
        }
    }

    const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    const fn except(mut self, exceptions: &'static [(Profile, &'static str)]) -> Self {
        self.exceptions = exceptions;
        self
    }

    const fn or_env(mut self, env: &'static str) -> Self {
        self.other_env = Some(env);
        self
    }

    const fn empty_counts(mut self) -> Self {
        self.empty_counts = true;
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// The default for a program.
    #[must_use]
    pub fn default_for(&self, profile: Profile) -> Option<&'static str> {
        let exception = self.exceptions.iter().find(|(who, _)| *who == profile);
        exception.map(|(_, value)| *value).or(self.default)
    }
}

/// The setting of that name.
#[must_use]
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The known name that is nearest to a mistyped one, if any is near.
#[must_use]
pub fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known
        .map(|name| (strsim::levenshtein(wrong, name), name))
        .min()?;
    // One slip in a short name, and one more for every four letters: further away it would be a
    // guess, and a wrong one costs more time than none.
    (near.0 <= 1 + wrong.len() / 4).then_some(near.1)
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// What `log` is by default: our own messages from `info` on, the libraries' from `warn` on. lapin
/// calls every connection and channel that is closed an error, several times; what counts of it,
/// the broker's adapter logs.
pub const DEFAULT_LOG: &str = "info,lapin=off,sqlx=warn,hyper=warn,hyper_util=warn,h2=warn,\
    reqwest=warn,rustls=warn";

/// All settings, chapter by chapter.
pub const SETTINGS: &[Setting] = &all();

const CHAPTERS: [&[Setting]; 4] = [
    everything::SETTINGS,
    api::SETTINGS,
    worker::SETTINGS,
    client::SETTINGS,
];

const COUNT: usize = {
    let mut count = 0;
    let mut chapter = 0;
    while chapter < CHAPTERS.len() {
        count += CHAPTERS[chapter].len();
        chapter += 1;
    }
    count
};

/// The chapters as one list. Slices cannot be joined in a constant but by hand.
const fn all() -> [Setting; COUNT] {
    let mut all = [everything::SETTINGS[0]; COUNT];
    let mut filled = 0;
    let mut chapter = 0;
    while chapter < CHAPTERS.len() {
        let mut index = 0;
        while index < CHAPTERS[chapter].len() {
            all[filled] = CHAPTERS[chapter][index];
            filled += 1;
            index += 1;
        }
        chapter += 1;
    }
    all
}
