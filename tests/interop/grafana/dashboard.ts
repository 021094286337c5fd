// What a dashboard's JSON must be: Grafana's own types, with each enum as the values that stand in JSON, and with the
// options of each kind of panel that we use in place of "any record".
import type { Dashboard, DashboardLink, DataSourceRef, FieldConfig, Panel, RowPanel } from '@grafana/schema/raw/dashboard/x/types.gen';
import type * as stat from '@grafana/schema/raw/composable/stat/panelcfg/x/types.gen';
import type * as table from '@grafana/schema/raw/composable/table/panelcfg/x/types.gen';
import type * as text from '@grafana/schema/raw/composable/text/panelcfg/x/types.gen';
import type * as timeseries from '@grafana/schema/raw/composable/timeseries/panelcfg/x/types.gen';

type Json<T> = T extends string
  ? `${T}`
  : T extends number
    ? `${T}` extends `${infer N extends number}` ? N : number
    : T extends object ? { [K in keyof T]: Json<T[K]> } : T;

/** A query of Prometheus. Its type is not in @grafana/schema: these are the members that Grafana's editor writes. */
interface Query {
  refId: string;
  datasource: DataSourceRef;
  expr: string;
  editorMode: 'code';
  format: 'time_series' | 'table' | 'heatmap';
  instant: boolean;
  range: boolean;
  legendFormat?: string;
}

interface Matcher { id: 'byName' | 'byRegexp'; options: string }
type Property =
  | { id: 'color'; value: FieldConfig['color'] }
  | { id: 'decimals'; value: number }
  | { id: 'mappings'; value: FieldConfig['mappings'] }
  | { id: 'custom.lineStyle'; value: timeseries.FieldConfig['lineStyle'] }
  | { id: 'custom.fillOpacity'; value: number }
  | { id: 'custom.cellOptions'; value: Partial<table.FieldConfig['cellOptions']> };

interface Fields<Custom> {
  defaults: Omit<FieldConfig, 'custom'> & { custom?: Custom };
  overrides: { matcher: Matcher; properties: Property[] }[];
}

interface Of<Kind extends string, Options, Custom> extends Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets' | 'links'> {
  type: Kind;
  title: string;
  description: string;
  datasource: DataSourceRef;
  gridPos: { h: number; w: number; x: number; y: number };
  options: Options;
  fieldConfig: Fields<Custom>;
  targets: Query[];
  links?: DashboardLink[];
}

interface Text extends Omit<Panel, 'type' | 'options'> {
  type: 'text';
  options: text.Options;
}

type AnyPanel =
  | RowPanel
  | Text
  | Of<'stat', stat.Options, never>
  | Of<'timeseries', timeseries.Options, Partial<timeseries.FieldConfig>>
  | Of<'table', table.Options, Partial<table.FieldConfig>>;

export type Board = Json<Omit<Dashboard, 'panels'> & { panels: AnyPanel[] }>;
