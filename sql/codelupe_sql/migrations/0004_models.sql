-- Batches: which files a training run learns from. A file is in one batch at most, so none is trained on twice and
-- none is lost; the rows lead from every model to repository, commit, licence and file.

create table batches (
    id bigint generated always as identity primary key,
    files integer not null,
    characters bigint not null,
    repositories integer not null,
    min_score real not null,
    created_at timestamptz not null default now()
);

-- The files of each batch; split says whether a file is learned from or only watched.
create table batch_files (
    file_id bigint primary key references processed_files (id),
    batch_id bigint not null references batches (id),
    split text not null check (split in ('train', 'validation'))
);

create index batch_files_by_batch on batch_files (batch_id);

-- One model a batch: a projection of the model events, with what the gate measured and decided.
create table models (
    id text primary key,
    batch_id bigint not null unique references batches (id),
    base text not null,
    state text not null check (state in ('training', 'trained', 'failed', 'promoted', 'rejected')),
    -- Its place below the models' folder.
    path text,
    -- Means per token in nats: train, validation, and on held-out repositories for the candidate and the current model.
    losses jsonb not null default '{}',
    metrics jsonb not null default '{}',
    reasons jsonb not null default '[]',
    steps integer,
    samples integer,
    started_at timestamptz not null default now(),
    finished_at timestamptz,
    decided_at timestamptz
);

create index models_in_use on models (decided_at desc) where state = 'promoted';
