import { PromiseDelegate } from '@lumino/coreutils';
import { BatchApiError } from '../../../errors';
import type { ISnapshotPlan, ISubmission } from '../../../models';
import { SubmitModel } from '../model';
import { FakeServices, fakeStateDB, PLAN, SUBMISSION } from './fakes';

function makeModel(
  services = new FakeServices(),
  options: Partial<SubmitModel.IOptions> = {}
): SubmitModel {
  return new SubmitModel({
    services,
    notebookPath: 'digits/train.ipynb',
    title: 'train',
    stateDB: null,
    ...options
  });
}

describe('SubmitModel', () => {
  it('submits the defaults at once, before anything has arrived', async () => {
    const services = new FakeServices();
    const never = new PromiseDelegate<ISnapshotPlan>();
    services.answerPlan = () => never.promise;
    const model = makeModel(services);
    void model.load();
    expect(await model.submit()).toEqual(SUBMISSION);
    expect(services.submitted[0].request).toMatchObject({
      notebook_path: 'digits/train.ipynb',
      title: 'train',
      parameters: {},
      capture_from: 'auto'
    });
  });

  it('sends only the parameters that were changed, typed', async () => {
    const services = new FakeServices();
    const model = makeModel(services);
    await model.load();
    model.setParameter('epochs', '5');
    model.setParameter('quick', true);
    await model.submit();
    expect(services.submitted[0].request.parameters).toEqual({
      epochs: 5,
      quick: true
    });
  });

  it('does not send what cannot be read, and says why beside the field', async () => {
    const services = new FakeServices();
    const model = makeModel(services);
    await model.load();
    model.setParameter('epochs', 'many');
    model.update({ limit: { text: 'soon' } });
    expect(model.errors.size).toBe(0);
    expect(await model.submit()).toBeNull();
    expect([...model.errors.keys()]).toEqual(['limit', 'parameter:epochs']);
    expect(services.submitted).toEqual([]);
    model.setParameter('epochs', '7');
    expect([...model.errors.keys()]).toEqual(['limit']);
  });

  it('creates one Submission from a double click', async () => {
    const services = new FakeServices();
    const model = makeModel(services);
    await model.load();
    const [first, second] = await Promise.all([model.submit(), model.submit()]);
    expect([first, second]).toEqual([SUBMISSION, null]);
    expect(services.submitted).toHaveLength(1);
  });

  it('keeps what was typed and the same key when the server refuses', async () => {
    const services = new FakeServices();
    services.answerSubmit = () =>
      Promise.reject(
        new BatchApiError('Epochs must be positive.', {
          code: 'parameters_invalid',
          details: { parameter: 'epochs' }
        })
      );
    const model = makeModel(services);
    await model.load();
    model.setParameter('epochs', '-5');
    expect(await model.submit()).toBeNull();
    expect(model.state.refusal).toMatchObject({
      place: 'parameters',
      parameter: 'epochs'
    });
    expect(model.state.form.inputs.get('epochs')).toBe('-5');
    services.answerSubmit = () => Promise.resolve(SUBMISSION);
    expect(await model.submit()).toEqual(SUBMISSION);
    expect(services.submitted[0].key).toBe(services.submitted[1].key);
  });

  it('remembers the choices for this notebook only', async () => {
    const stateDB = fakeStateDB();
    const first = makeModel(undefined, { stateDB });
    await first.load();
    first.update({ profile: 'gpu', limit: 5400, captureFrom: 'folder' });
    first.setParameter('name', 'Ada');
    await first.submit();

    const services = new FakeServices();
    const again = makeModel(services, { stateDB });
    await again.load();
    expect(again.state.form).toMatchObject({
      profile: 'gpu',
      limit: { text: '1 h 30 min' },
      captureFrom: 'folder'
    });
    expect(again.state.form.inputs.get('name')).toBe('Ada');
    expect(services.planned.map(request => request.capture_from)).toEqual([
      'folder'
    ]);

    const other = makeModel(undefined, { stateDB, notebookPath: 'b.ipynb' });
    await other.load();
    expect(other.state.form.profile).toBeNull();
  });

  it('falls back to what exists when a remembered profile is gone', async () => {
    const services = new FakeServices();
    const model = makeModel(services, { defaults: { profile: 'retired' } });
    await model.load();
    await model.submit();
    expect(services.submitted[0].request.profile).toBe('default');
  });

  it('drops the answer to a plan that is no longer asked for', async () => {
    const services = new FakeServices();
    const answers: PromiseDelegate<ISnapshotPlan>[] = [];
    services.answerPlan = () => {
      const answer = new PromiseDelegate<ISnapshotPlan>();
      answers.push(answer);
      return answer.promise;
    };
    const model = makeModel(services);
    const first = model.plan();
    model.update({ captureFrom: 'folder' });
    answers[1].resolve({ ...PLAN, work_files: 2 });
    answers[0].resolve({ ...PLAN, work_files: 1 });
    await first;
    expect(model.state.plan).toMatchObject({ value: { work_files: 2 } });
  });

  it('cancels a Submission that is accepted after the dialog was closed', async () => {
    const services = new FakeServices();
    const answer = new PromiseDelegate<ISubmission>();
    services.answerSubmit = () => answer.promise;
    const model = makeModel(services);
    await model.load();
    const result = model.submit();
    await Promise.resolve();
    model.dispose();
    answer.resolve(SUBMISSION);
    expect(await result).toBeNull();
    expect(services.cancelled).toEqual([SUBMISSION.id]);
  });
});
