//! What a page may ask for over Socket.IO: THE list of what it says, as the catalogue is of what it is told.

/// Something that a page may say to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Subscribe,
    Unsubscribe,
    SubscribeAutomation,
    UnsubscribeAutomation,
    Cancel,
    Pause,
    Resume,
    Retry,
    Ping,
}

/// What it has to say with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Nothing,
    /// A job's id.
    Job,
    /// A job's id, and perhaps from where on its past is wanted.
    JobAndPast,
}

/// What the acknowledgement says, if it is not a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gives {
    /// That it is done.
    Done,
    /// Where the job stands.
    Place,
    /// The job's status.
    Status,
    /// The status, and which job has it: a job that has ended is tried again as another one.
    StatusAndJob,
}

impl Ask {
    /// All of them.
    pub const ALL: &[Ask] = &[
        Ask::Subscribe,
        Ask::Unsubscribe,
        Ask::SubscribeAutomation,
        Ask::UnsubscribeAutomation,
        Ask::Cancel,
        Ask::Pause,
        Ask::Resume,
        Ask::Retry,
        Ask::Ping,
    ];

    /// The Socket.IO event's name.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// What it takes.
    pub fn takes(self) -> Takes {
        self.row().1
    }

    /// What it is answered with.
    pub fn gives(self) -> Gives {
        self.row().2
    }

    /// One sentence.
    pub fn doc(self) -> &'static str {
        self.row().3
    }

    fn row(self) -> (&'static str, Takes, Gives, &'static str) {
        use {Gives as G, Takes as T};
        match self {
            Ask::Subscribe => (
                "job:subscribe",
                T::JobAndPast,
                G::Place,
                "Tells this page of the job from now on, and of what happened since it connected.",
            ),
            Ask::Unsubscribe => {
                ("job:unsubscribe", T::Job, G::Done, "Tells this page no more of the job in this room.")
            }
            Ask::SubscribeAutomation => (
                "automation:subscribe",
                T::JobAndPast,
                G::Place,
                "The same as `job:subscribe`, in a room of its own; a page in both is told once.",
            ),
            Ask::UnsubscribeAutomation => {
                ("automation:unsubscribe", T::Job, G::Done, "Leaves the job's other room.")
            }
            Ask::Cancel => ("job:cancel", T::Job, G::Status, "Ends the job."),
            Ask::Pause => ("job:pause", T::Job, G::Status, "Lets the job begin no further item."),
            Ask::Resume => ("job:resume", T::Job, G::Status, "Lets a paused job go on where it stood."),
            Ask::Retry => (
                "job:retry",
                T::Job,
                G::StatusAndJob,
                "Works on the job's failed items again; a job that has ended is tried again as another one.",
            ),
            Ask::Ping => (
                "ping",
                T::Nothing,
                G::Done,
                "Answered with a `system:notification` whose message is `pong`.",
            ),
        }
    }
}
