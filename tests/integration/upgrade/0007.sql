-- What a CodeLupe of the schema 0007 leaves behind when its machine loses power in the middle of work: events, tasks in
-- each state, dead letters, a worker, jobs, a repository with files, a batch and a model. Written by the functions and
-- tables of that schema; later migrations must carry all of it on.

select append_events(
    array['repo/local:/a', 'repo/local:/a', 'repo/local:/b', 'batch/1', 'subscription/old.each', 'batch/2', 'batch/3'],
    array['RepoDiscovered', 'RepoEmpty', 'RepoEmpty', 'BatchReady', 'TaskParked', 'BatchReady', 'BatchReady'],
    array[1, 1, 1, 1, 1, 1, 1],
    array['00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000002',
          '00000000-0000-7000-8000-000000000003', '00000000-0000-7000-8000-000000000004',
          '00000000-0000-7000-8000-000000000005', '00000000-0000-7000-8000-000000000006',
          '00000000-0000-7000-8000-000000000007']::uuid[],
    array[
        '{"repository_id": "local:/a", "source": "local", "full_name": "a", "url": "file:///a", "revision": "1"}',
        '{"repository_id": "local:/a", "url": "file:///a"}',
        '{"repository_id": "local:/b", "url": "file:///b"}',
        '{"batch_id": 1, "files": 1, "characters": 4, "repositories": 1, "min_score": 50.0}',
        '{"subscription": "old.each", "event_id": "00000000-0000-7000-8000-000000000004", "event_type": "BatchReady",
          "attempts": 5, "error": "OSError: No space left on device"}',
        '{"batch_id": 2, "files": 1, "characters": 4, "repositories": 1, "min_score": 50.0}',
        '{"batch_id": 3, "files": 1, "characters": 4, "repositories": 1, "min_score": 50.0}'
    ]::jsonb[],
    array_fill('{"by": "old.job"}'::jsonb, array[7]),
    array['00000000-0000-5000-8000-000000000001', null, null, null, null, null, null]::uuid[]);

insert into subscriptions (name, position, delivered) values ('old.each', 7, 3), ('old.many', 4, 0);
insert into workers (id, lease_until, host, boot_id, pid, pid_started)
values ('00000000-0000-4000-8000-000000000001', now() - interval '1 hour', 'elsewhere', 'b', 1, 's');
insert into tasks (subscription, stream, position, attempts, error) values ('old.each', 'batch/2', 6, 1, 'try again');
insert into tasks (subscription, stream, position, state, losses, worker, token, started_at, progress)
values ('old.each', 'batch/3', 7, 'running', 2, '00000000-0000-4000-8000-000000000001',
        '00000000-0000-4000-8000-000000000002', now(), '{"step": 12}');
insert into tasks (subscription, stream, position, state, attempts, losses, parked_at, error, traceback)
values ('old.each', 'batch/1', 4, 'parked', 5, 1, '2026-11-01 12:00+00', 'OSError: No space left on device', 'Traceback');
insert into jobs (name, started_at, finished_at, error) values ('old.job', now(), now(), null);

insert into repositories (id, source, full_name, url, revision, state, licence, commit, path, score)
values ('local:/a', 'local', 'a', 'file:///a', '1', 'scored', 'MIT', 'c', 'a', 80);
insert into processed_files
    (repository_id, commit, file_path, language, licence, content, content_hash, size_bytes, characters, quality_score)
values ('local:/a', 'c', 'kept.py', 'Python', 'MIT', 'pass', '\x01', 4, 4, 80);
insert into processed_files (repository_id, commit, file_path, size_bytes, rejected_by, rejection)
values ('local:/a', 'c', 'refused.bin', 9, 'binary', '{"detail": "it is binary"}');
insert into batches (files, characters, repositories, min_score) values (1, 4, 1, 50);
insert into batch_files (file_id, batch_id, split) values (1, 1, 'train');
insert into models (id, batch_id, base, state, path, losses, metrics, steps, samples, finished_at, decided_at)
values ('2026-11-01-1', 1, 'base', 'promoted', '2026-11-01-1', '{"train": 1.5}', '{"candidate": 1.2}', 4, 8, now(), now());
