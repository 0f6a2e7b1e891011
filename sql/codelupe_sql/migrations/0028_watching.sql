-- By which settings a model is trained, and how far its training was when it last told.

alter table models
    add column settings jsonb not null default '{}',
    -- Its activity or its steps with their figures, the graphics cards, and when that was, as "at".
    add column progress jsonb;
