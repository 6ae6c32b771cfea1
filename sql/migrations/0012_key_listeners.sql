-- Which backends apid's workers listen on for key notices (common/keys_sync.h). A worker that goes in an orderly way takes its row along; the
-- row of one whose connection was lost stays, so that whoever changes a key next waits until that worker can use nothing it had cached.

create table key_listeners (pid int primary key);
-- step
grant select, insert, delete on key_listeners to minutemail_apid;
