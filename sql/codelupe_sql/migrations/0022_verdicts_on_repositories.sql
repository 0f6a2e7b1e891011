-- What the repository rules said last, apart from how far a repository has come, which other stages write.

alter table repositories
    add column verdict text check (verdict in ('accepted', 'rejected')),
    -- The revision that it is about, and the position of the event that was judged.
    add column judged_revision text,
    add column judged_position bigint not null default 0,
    -- How far it had come when it was rejected, to be there again if it is accepted after all.
    add column reached text;

update repositories set
    verdict = case state when 'rejected' then 'rejected' else 'accepted' end, judged_revision = revision
where state in ('accepted', 'rejected', 'cloned', 'empty', 'extracted', 'scored');
