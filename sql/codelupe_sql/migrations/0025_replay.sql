-- Files of earlier batches that a batch learns from again: some of all that was learned, so that it is not forgotten
-- (arXiv 2403.08763), and all of a batch whose training failed. They are drawn when the batch is frozen.

create table batch_replays (
    batch_id bigint not null references batches (id),
    file_id bigint not null references processed_files (id),
    -- Whether it comes of a batch whose training failed, and so was not learned from before.
    is_returned boolean not null,
    primary key (batch_id, file_id)
);

create index batch_replays_by_file on batch_replays (file_id);
