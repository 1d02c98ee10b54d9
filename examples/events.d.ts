// Generated from Jobcast's catalogue of events (src/event/catalogue.rs) by `jobcast contract typescript`.

/** A job was accepted. */
export interface JobCreated {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** What kind of work it is. */
  jobType: "crawl" | "automation" | "companies" | "work";
  /** The name that its creator gave it. */
  name: string;
}

/** The job moved to another status, or on within it. */
export interface JobUpdated {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** `pending`, `crawling`, `processing-ocr`, `matching`, `rendering`, `paused`, `completed` or `failed`. */
  status: string;
  /** Percent of the whole job, 0 to 100; never falls. */
  progress?: number;
  /** The stage at work, in the words of `status`. */
  currentStage?: string;
  /** A sentence for people, such as why an item was skipped. */
  message?: string;
}

/** How far the job is; only the newest counts, so it may be skipped on slow connections. */
export interface JobProgress {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** Percent of the whole job, 0 to 100; never falls. */
  progress: number;
  /** The stage at work, in the words of `job:updated`'s `status`. */
  currentStep: string;
  /** Percent of the current step, 0 to 100. */
  currentStepProgress?: number;
  /** How many steps the job has. */
  totalSteps?: number;
  /** A sentence for people. */
  message?: string;
}

/** The job ended well; no event follows. */
export interface JobCompleted {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** What came out; an automation job's has `summary`. */
  results: Record<string, unknown>;
  /** Milliseconds from the start of the job to its end. */
  duration: number;
}

/** The job ended without its results; no event follows. */
export interface JobFailed {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** A sentence that says what went wrong. */
  error: string;
  /** The stage that failed. */
  stage?: string;
  /** Present and true when a person cancelled the job. */
  cancelled?: boolean;
}

/** The worker that has the job says something for people who watch it. */
export interface JobLog {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** How much it matters. */
  level: "debug" | "info" | "success" | "warning" | "error";
  /** A sentence. */
  message: string;
  /** The part of the worker that says it. */
  source?: string;
}

/** The job's document changed: what its pipeline shows of its state. */
export interface JobPatched {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** A merge patch (RFC 7396); all of a job's, one after the other on `{}`, make its document. */
  patch: Record<string, unknown>;
}

/** A file was stored with the job. */
export interface ArtifactStored {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** Its name, under which a later one takes its place. */
  name: string;
  /** Absolute address of the artifact's bytes. */
  url: string;
  /** Its media type. */
  contentType: string;
  /** Bytes. */
  size: number;
}

/** A product page was photographed. */
export interface ScreenshotCaptured {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** The screenshot. */
  screenshotId: string;
  /** Absolute address of the PNG. */
  url: string;
  /** Absolute address of the page. */
  productUrl: string;
  /** Absolute address of a smaller PNG. */
  thumbnailUrl?: string;
  /** The product's name as the page declares it. */
  productName?: string;
}

/** A screenshot reached the object store. */
export interface ScreenshotUploaded {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** The screenshot. */
  screenshotId: string;
  /** Absolute address of the PNG. */
  imageUrl: string;
  /** Absolute address of a smaller PNG. */
  thumbnailUrl?: string;
}

/** Reading of a screenshot began. */
export interface OcrStarted {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** The screenshot being read. */
  screenshotId: string;
}

/** How far the reading of a screenshot is. */
export interface OcrProgress {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** The screenshot being read. */
  screenshotId: string;
  /** Percent, 0 to 100. */
  progress: number;
}

/** A screenshot was read. */
export interface OcrCompleted {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** The screenshot that was read. */
  screenshotId: string;
  /** The result's own id. */
  ocrResultId: string;
  /** The values, after the cross-check with the page's own data. */
  data: { articleNumber?: string, price?: number, productName?: string, 
/**
 * 0 to 100.
 */
confidence: number, };
}

/** A screenshot could not be read. */
export interface OcrFailed {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** The screenshot. */
  screenshotId: string;
  /** A sentence that says why. */
  error: string;
}

/** A read product was found among the known products. */
export interface MatchFound {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** The reading that was matched. */
  ocrResultId: string;
  /** The match's own id. */
  matchId: string;
  /** How it was found. */
  matchType: "exact" | "fuzzy";
  /** 0 to 1. */
  confidence: number;
  /** The known product's article number. */
  articleNumber: string;
}

/** No known product fits a reading. */
export interface MatchFailed {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** The reading. */
  ocrResultId: string;
  /** A sentence that says why. */
  reason: string;
  /** The article number that was read. */
  articleNumber?: string;
}

/** A label was rendered. */
export interface LabelGenerated {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** The label. */
  labelId: string;
  /** Absolute address of the PNG. */
  imageUrl: string;
  /** The product's article number; empty when none is known. */
  articleNumber: string;
}

/** A label could not be rendered. */
export interface LabelFailed {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** A sentence that says why. */
  error: string;
  /** The product's article number. */
  articleNumber?: string;
}

/** A company's own site is being looked at. */
export interface CompanyStarted {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** The company's domain. */
  domain: string;
  /** Which of the workers looks at it, from 1. */
  worker: number;
}

/** How far the look at a company's site is. */
export interface CompanyProgress {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** The company's domain. */
  domain: string;
  /** Which of the workers looks at it. */
  worker: number;
  /** Percent, 0 to 99. */
  progress: number;
  /** The page that was read last. */
  page: string;
}

/** A company's own site was read. */
export interface CompanyFound {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** The finding's own id. */
  companyId: string;
  /** The company's domain. */
  domain: string;
  /** How many pages were read. */
  pages: number;
  /** What they say of the company. */
  profile: Record<string, unknown>;
  /** Which of the workers read it. */
  worker?: number;
}

/** Nothing could be found of a company. */
export interface CompanyFailed {
  jobId: string;
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** The company's domain. */
  domain: string;
  /** A sentence that says why. */
  reason: string;
}

/** Something to tell the user that belongs to no job. */
export interface SystemNotification {
  /** ISO 8601, UTC, milliseconds. */
  timestamp: string;
  /** How to show it. */
  type: "info" | "warning" | "error" | "success";
  /** A sentence. */
  message: string;
  /** More, for programs. */
  details?: Record<string, unknown>;
}

/**
 * `offset` is the event's place in the journal; pages may ignore it.
 *
 * Workers also tell of events of their own, named by their kind's prefix, a colon and a word (`novel:chunk-done`).
 * They are no part of this type, for an index signature would take every misspelt name: add yours with
 * `ServerToClientEvents & { "novel:chunk-done": (payload: …, offset?: string) => void }`. Each has `jobId` and
 * `timestamp`.
 */
export interface ServerToClientEvents {
  "job:created": (payload: JobCreated, offset?: string) => void;
  "job:updated": (payload: JobUpdated, offset?: string) => void;
  "job:progress": (payload: JobProgress, offset?: string) => void;
  "job:completed": (payload: JobCompleted, offset?: string) => void;
  "job:failed": (payload: JobFailed, offset?: string) => void;
  "job:log": (payload: JobLog, offset?: string) => void;
  "job:patched": (payload: JobPatched, offset?: string) => void;
  "artifact:stored": (payload: ArtifactStored, offset?: string) => void;
  "screenshot:captured": (payload: ScreenshotCaptured, offset?: string) => void;
  "screenshot:uploaded": (payload: ScreenshotUploaded, offset?: string) => void;
  "ocr:started": (payload: OcrStarted, offset?: string) => void;
  "ocr:progress": (payload: OcrProgress, offset?: string) => void;
  "ocr:completed": (payload: OcrCompleted, offset?: string) => void;
  "ocr:failed": (payload: OcrFailed, offset?: string) => void;
  "match:found": (payload: MatchFound, offset?: string) => void;
  "match:failed": (payload: MatchFailed, offset?: string) => void;
  "label:generated": (payload: LabelGenerated, offset?: string) => void;
  "label:failed": (payload: LabelFailed, offset?: string) => void;
  "company:started": (payload: CompanyStarted, offset?: string) => void;
  "company:progress": (payload: CompanyProgress, offset?: string) => void;
  "company:found": (payload: CompanyFound, offset?: string) => void;
  "company:failed": (payload: CompanyFailed, offset?: string) => void;
  "system:notification": (payload: SystemNotification, offset?: string) => void;
}

/** What the acknowledgement of something that was refused says. */
export interface Refused {
  ok: false;
  error: { code: string; message: string };
}

/** What a subscription's acknowledgement says: where the job stands. */
export type Subscribed = { ok: true; seq: number; status: string } | Refused;

export type Done = { ok: true } | Refused;

export type Changed = { ok: true; status: string } | Refused;

/** `jobId` is another job's if the one that is tried again has ended. */
export type Retried = { ok: true; status: string; jobId: string } | Refused;

export interface SubscribeOptions {
  /** Replay what happened to the job after this seq; 0 for everything. */
  after?: number;
}

type Subscribe = (
  id: string,
  ...more:
    | [acknowledge?: (answer: Subscribed) => void]
    | [options: SubscribeOptions, acknowledge?: (answer: Subscribed) => void]
) => void;

export interface ClientToServerEvents {
  /** Tells this page of the job from now on, and of what happened since it connected. */
  "job:subscribe": Subscribe;
  /** Tells this page no more of the job in this room. */
  "job:unsubscribe": (id: string, acknowledge?: (answer: Done) => void) => void;
  /** The same as `job:subscribe`, in a room of its own; a page in both is told once. */
  "automation:subscribe": Subscribe;
  /** Leaves the job's other room. */
  "automation:unsubscribe": (id: string, acknowledge?: (answer: Done) => void) => void;
  /** Ends the job. */
  "job:cancel": (id: string, acknowledge?: (answer: Changed) => void) => void;
  /** Lets the job begin no further item. */
  "job:pause": (id: string, acknowledge?: (answer: Changed) => void) => void;
  /** Lets a paused job go on where it stood. */
  "job:resume": (id: string, acknowledge?: (answer: Changed) => void) => void;
  /** Works on the job's failed items again; a job that has ended is tried again as another one. */
  "job:retry": (id: string, acknowledge?: (answer: Retried) => void) => void;
  /** Answered with a `system:notification` whose message is `pong`. */
  "ping": (acknowledge?: (answer: Done) => void) => void;
}
