-- A job whose next run something asked for ahead of its interval.
alter table jobs add column is_wanted boolean not null default false;
