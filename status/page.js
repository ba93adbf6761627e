// Puts the parts of the page that change in their places. Without it the page works too, and is as old as when it was
// loaded.
'use strict';

(() => {
  const live = document.getElementById('live');
  if (!live) return; // the login

  const was = new Map(); // the HTML of each part as it came, by its id
  let held = false;      // a button is held down, and must not be replaced under the finger
  let waiting = null;    // what came meanwhile

  const apply = (html) => {
    if (held) {
      waiting = html;
      return;
    }
    const doc = new DOMParser().parseFromString(html, 'text/html');
    const focus = document.activeElement?.id;
    for (const part of doc.querySelectorAll('[data-live]')) {
      const old = document.getElementById(part.id);
      if (!old || was.get(part.id) === part.outerHTML) continue;
      was.set(part.id, part.outerHTML);
      if (old.getAttribute('role') === 'status') old.textContent = part.textContent; // so that it is read aloud
      else replace(old, part);
    }
    if (focus && document.activeElement?.id !== focus) document.getElementById(focus)?.focus({preventScroll: true});
  };

  // replace keeps the element with the headline, which is read aloud only if its words change.
  const replace = (old, part) => {
    const [said, next] = [old, part].map((e) => e.querySelector('[role=status]'));
    if (said && next) {
      if (said.textContent !== next.textContent) said.textContent = next.textContent;
      next.replaceWith(said);
    }
    for (const item of part.querySelectorAll('li[id]')) {
      const before = document.getElementById(item.id);
      if (before?.textContent !== item.textContent) item.classList.add('changed');
    }
    old.replaceWith(document.adoptNode(part));
  };

  addEventListener('pointerdown', () => { held = true; });
  for (const end of ['pointerup', 'pointercancel']) {
    addEventListener(end, () => {
      held = false;
      const html = waiting;
      waiting = null;
      if (html) setTimeout(() => apply(html)); // after the click
    });
  }

  let source = null;
  const watch = () => {
    if (document.hidden) { // a browser has few connections, and nobody looks
      source?.close();
      source = null;
      return;
    }
    if (source) return;
    source = new EventSource('/status/events');
    source.onmessage = (e) => {
      live.textContent = 'Live.';
      document.querySelector('footer time').textContent = new Date().toISOString().slice(11, 19) + ' UTC';
      apply(e.data);
    };
    source.onerror = () => {
      live.textContent = source.readyState === EventSource.CLOSED ?
        'No longer live: reload the page.' : 'Not live for the moment.';
    };
  };
  document.addEventListener('visibilitychange', watch);
  watch();

  // Forms that say so are sent without leaving the page.
  document.addEventListener('submit', async (e) => {
    const form = e.target;
    if (!('here' in form.dataset)) return;
    e.preventDefault();
    const body = new URLSearchParams(new FormData(form, e.submitter));
    const buttons = document.querySelectorAll(`form[action="${form.getAttribute('action')}"] button`);
    buttons.forEach((b) => { b.setAttribute('aria-disabled', 'true'); });
    try {
      const answer = await fetch(form.action, {method: 'POST', body});
      apply(await answer.text());
    } catch {
      document.getElementById('said').textContent = 'The service does not answer: try again.';
    }
    buttons.forEach((b) => { b.removeAttribute('aria-disabled'); });
  });
  if (location.search) history.replaceState(null, '', location.pathname + location.hash); // a reload says it no more
})();
