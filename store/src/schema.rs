//! The tables, for anyone who opens the file with the sqlite3 tool. Knows no Rust types.

/// The version of the schema, kept in `PRAGMA user_version`.
pub const SCHEMA_VERSION: u32 = 5;

/// What leads from each version to the next, beginning with version 1: SQL that runs in one transaction. Files of older
/// versions get by them what [`SCHEMA`] gives to new ones, which a test compares. A column that a step adds stands last
/// in its table, there as well.
pub(crate) const STEPS: [&str; SCHEMA_VERSION as usize - 1] = [
    // To 2: the store can be told from others.
    "CREATE TABLE identity (
         id          INTEGER PRIMARY KEY CHECK (id = 1),
         incarnation BLOB    NOT NULL
     );
     INSERT INTO identity VALUES (1, randomblob(16));",
    // To 3: messages get older while a gateway runs, whatever the wall clock says. What is there begins now.
    "ALTER TABLE totals ADD COLUMN age_ms INTEGER NOT NULL DEFAULT 0;
     CREATE TABLE ages (
         age_ms   INTEGER PRIMARY KEY,
         newest   INTEGER NOT NULL
     );",
    // To 4: a session keeps what its client was told and may have missed.
    "ALTER TABLE sessions ADD COLUMN told_max INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE sessions ADD COLUMN lost_from INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE sessions ADD COLUMN lost_to INTEGER NOT NULL DEFAULT 0;",
    // To 5: what is kept is counted by source and by session. What is there already is nobody's.
    "ALTER TABLE sessions ADD COLUMN source INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE sessions ADD COLUMN message_bytes INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE sessions ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
     UPDATE sessions SET used = 1 WHERE committed > 0 OR out_committed > 0;
     ALTER TABLE messages ADD COLUMN source INTEGER NOT NULL DEFAULT 0;
     CREATE INDEX sessions_unused ON sessions (expires_ms)
    WHERE expires_ms IS NOT NULL AND used = 0;
     CREATE INDEX sessions_unused_by_source ON sessions (source, expires_ms)
    WHERE expires_ms IS NOT NULL AND used = 0;
     CREATE TABLE sources (
         source         INTEGER PRIMARY KEY,
         sessions       INTEGER NOT NULL,
         message_bytes  INTEGER NOT NULL,
         outgoing_bytes INTEGER NOT NULL
     );
     INSERT INTO sources SELECT 0, count(*), (SELECT message_bytes FROM totals), coalesce(sum(out_bytes), 0)
         FROM sessions;",
];

/// The tables. Times ending in `_ms` are milliseconds since 1970-01-01 UTC, except where it says otherwise.
pub const SCHEMA: &str = "
-- What outlives a connection: an identity, four cursors, what is in flight.
CREATE TABLE sessions (
    id             INTEGER PRIMARY KEY AUTOINCREMENT   -- never used again, never 0
                           CHECK (id > 0),
    client         TEXT    NOT NULL,                   -- who the client says that it is
    token          BLOB    NOT NULL,                   -- 16 random bytes, the newest
    previous_token BLOB,                               -- valid until a frame arrives under the newest
    epoch          INTEGER NOT NULL,                   -- goes up by one with each connection
    committed      INTEGER NOT NULL,                   -- of its messages: committed or refused up to here
    floor          INTEGER NOT NULL,                   -- ... and the client knows up to here
    out_last       INTEGER NOT NULL,                   -- of messages to it: the last number given
    out_committed  INTEGER NOT NULL,                   -- ... and the client has them up to here
    out_bytes      INTEGER NOT NULL,                   -- payload of those between
    message_max    INTEGER NOT NULL,                   -- the longest payload that it takes, in bytes
    quota_from_ms  INTEGER NOT NULL,                   -- since when its quota is counted, as age_ms in totals
    quota_bytes    INTEGER NOT NULL,                   -- how much of it is used
    created_ms     INTEGER NOT NULL,
    last_seen_ms   INTEGER NOT NULL,
    ttl_ms         INTEGER NOT NULL,                   -- how long it is kept without a connection
    expires_ms     INTEGER,                            -- on the gateway's uptime; NULL: it has a connection
    told_max       INTEGER NOT NULL DEFAULT 0,         -- the longest payload that its client was ever told it may send
    lost_from      INTEGER NOT NULL DEFAULT 0,         -- of its messages: the first that was acknowledged and is lost,
    lost_to        INTEGER NOT NULL DEFAULT 0,         -- and the last, until the client is known to have heard so; or 0
    source         INTEGER NOT NULL DEFAULT 0,         -- where its client was last; see the table sources
    message_bytes  INTEGER NOT NULL DEFAULT 0,         -- of its messages, those that are still kept
    used           INTEGER NOT NULL DEFAULT 0          -- 1 once anything was committed or receipted in it
);
CREATE INDEX sessions_by_client ON sessions (client);
CREATE INDEX sessions_attached ON sessions (client) WHERE expires_ms IS NULL;
CREATE INDEX sessions_by_expiry ON sessions (expires_ms) WHERE expires_ms IS NOT NULL;
-- Those that were never used: they go first when there is no room. No message changes a column of any index.
CREATE INDEX sessions_unused ON sessions (expires_ms)
    WHERE expires_ms IS NOT NULL AND used = 0;
CREATE INDEX sessions_unused_by_source ON sessions (source, expires_ms)
    WHERE expires_ms IS NOT NULL AND used = 0;

-- Clients' messages in the order of their commits, kept whether or not their sessions are.
CREATE TABLE messages (
    id             INTEGER PRIMARY KEY,                -- goes up by one, never used again
    session        INTEGER NOT NULL,                   -- 0: its client had none
    number         INTEGER NOT NULL,                   -- 1, 2, 3 ... within the session; refused ones are left out
    received_at_ms INTEGER NOT NULL,
    client         TEXT    NOT NULL,
    payload        BLOB    NOT NULL,
    source         INTEGER NOT NULL DEFAULT 0          -- where it came from
);

-- What each source of connections has: an IPv4 address in the lower 32 bits, or an IPv6 network of 48 bits in the
-- upper ones. Source 0 has what is counted for nobody.
CREATE TABLE sources (
    source         INTEGER PRIMARY KEY,
    sessions       INTEGER NOT NULL,
    message_bytes  INTEGER NOT NULL,                   -- counted as in totals
    outgoing_bytes INTEGER NOT NULL                    -- payload that waits for its clients
);

-- Refusals that a client has not confirmed yet.
CREATE TABLE refusals (
    session INTEGER NOT NULL,
    number  INTEGER NOT NULL,
    code    INTEGER NOT NULL,                          -- 1 too large, 2 over quota
    PRIMARY KEY (session, number)
) WITHOUT ROWID;

-- Messages to clients that wait for their receipts.
CREATE TABLE outgoing (
    id         INTEGER PRIMARY KEY,
    session    INTEGER NOT NULL,
    number     INTEGER NOT NULL,                       -- 1, 2, 3 ... within the session
    created_ms INTEGER NOT NULL,
    payload    BLOB    NOT NULL
);
CREATE UNIQUE INDEX outgoing_by_session ON outgoing (session, number);

-- One row: how much the messages are, up to which id the oldest have been deleted, how often anything was written.
CREATE TABLE totals (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    messages      INTEGER NOT NULL,
    message_bytes INTEGER NOT NULL,                    -- each counts 64 beside its payload and its client's id
    deleted_to    INTEGER NOT NULL,
    batch         INTEGER NOT NULL,                    -- goes up by one with each transaction that changes anything
    age_ms        INTEGER NOT NULL DEFAULT 0           -- for how long gateways have run on this store
);
INSERT INTO totals VALUES (1, 0, 0, 0, 0, 0);

-- How old messages are: when gateways had run for so long, they had committed these.
CREATE TABLE ages (
    age_ms   INTEGER PRIMARY KEY,                      -- as in totals
    newest   INTEGER NOT NULL                          -- the highest id of a message
);

-- One row: which store this is, however its file is called and wherever it lies.
CREATE TABLE identity (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    incarnation BLOB    NOT NULL                       -- 16 random bytes
);
INSERT INTO identity VALUES (1, randomblob(16));
";
