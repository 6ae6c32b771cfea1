/* Intrusive doubly linked list; unlinking needs only the element. A zeroed link is "not in a list". */
#ifndef MINUTEMAIL_LIST_H
#define MINUTEMAIL_LIST_H

#include "common/base.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l) {
	l->next = l->prev = l;
}
static inline bool list_empty(const struct list *head) {
	return head->next == head;
}
static inline bool list_linked(const struct list *l) {
	return l->next != NULL && l->next != l;
}
static inline void list_append(struct list *head, struct list *l) {
	l->prev = head->prev;
	l->next = head;
	head->prev->next = l;
	head->prev = l;
}
static inline void list_prepend(struct list *head, struct list *l) {
	list_append(head->next, l);
}
static inline void list_unlink(struct list *l) {
	if (l->next) {
		l->next->prev = l->prev;
		l->prev->next = l->next;
	}
	l->next = l->prev = NULL;
}
static inline struct list *list_first(struct list *head) {
	return list_empty(head) ? NULL : head->next;
}

#define list_entry(l, type, member) container_of(l, type, member)
#define list_for_each(l, head) for (struct list *l = (head)->next; l != (head); l = l->next)
/* The body may unlink or free `l`, nothing else. */
#define list_for_each_safe(l, head) \
	for (struct list *l = (head)->next, *l##_next = l->next; l != (head); l = l##_next, l##_next = l->next)

#endif
