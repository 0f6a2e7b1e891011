-- Which model's adapter a training went on from; null if it began with a new one.

alter table models add column parent text references models (id);

create index models_by_parent on models (parent) where parent is not null;
